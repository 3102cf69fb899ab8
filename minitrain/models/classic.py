"""Small nets: a multilayer perceptron, LeNet, and plain deep nets without shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy.typing as npt

from minitrain.layers import GlobalAvgPool
from minitrain.model import Model
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation, Stack
from nbnorm.jit.checks import expect_integer, expect_one_of

__all__ = ["lenet", "mlp", "plain"]


def mlp(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    hidden: Sequence[int] = (100, 100, 100),
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return dense layers with activations: dense1, dense2 ... head.

    With `activation="sigmoid"` and the default sizes it is the net of Ioffe & Szegedy 2015, figure 1.

    Parameters
    ----------
    input_shape : tuple of int
        Of one sample; images are flattened.
    classes : int
        Number of logits.
    hidden : sequence of int
        Width of each hidden layer.
    activation : str or Layer
        "relu", "leaky_relu", "prelu", "sigmoid", "tanh", or a layer whose copies are used.
    norm : "before", "after", None, str, Layer, function, or a pair of one of these and a place
        Batch norm before or after each activation, or no norm. Or another one: "batch", "group" (at most 32 groups, of
        at least 8 channels), "layer" (over a whole sample, with a scale and a shift for each channel), "instance",
        "rms" (over the channels of each pixel), "filter_response" (whose threshold replaces a ReLU); a layer such as
        `layers.BatchNorm(momentum=0.01)`, whose copies are used; or a function without arguments that returns a layer.
        ("group", "after") says where they are, too; else they are where the net has them. "instance" and
        "filter_response" leave vectors as they are: what they normalize is a plane.
    weight_scale : float
        Multiplies the standard deviation of all first weights.
    seed, dtype
        Of the model.

    Examples
    --------
    >>> from minitrain import models
    >>> models.mlp((1, 8, 8), norm=None).params["dense1.weight"].shape
    (100, 64)
    """
    stack = Stack(input_shape, norm, activation, weight_scale)
    for features in hidden:
        stack.dense(features)
    stack.head(classes)
    return stack.model(seed, dtype)


def lenet(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return LeNet-5 (LeCun et al. 1998) with today's parts: conv1, conv2, dense1, dense2, head.

    Two 5 x 5 convolutions (padded, so that 8 x 8 images are large enough), each with largest-of-2x2 pooling, with 16
    and 32 filters in place of 6 and 16; then dense layers of 120 and 84. Arguments as for `mlp`.
    """
    stack = Stack(input_shape, norm, activation, weight_scale)
    for filters in (16, 32):
        stack.conv(filters, kernel_size=5)
        stack.pool()
    stack.dense(120)
    stack.dense(84)
    stack.head(classes)
    return stack.model(seed, dtype)


def plain(
    depth: int = 20,
    kind: Literal["conv", "dense"] = "conv",
    input_shape: Sequence[int] = (1, 8, 8),
    classes: int = 10,
    *,
    width: int | None = None,
    stages: int = 1,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return a deep net without shortcuts: what batch norm makes trainable.

    `depth` layers with weights, the head included: depth - 1 equal convolutions 3 x 3 (conv1, conv2 ...), then the
    mean over the plane; or depth - 1 equal dense layers (dense1, dense2 ...). The first convolution takes images of 16
    and more pixels a side in steps of two. In several stages the convolutions are the plain nets of He et al. 2016,
    section 4.2: each later stage has twice the filters, and its first convolution takes steps of two.

    Parameters
    ----------
    depth : int
        At least 2.
    kind : "conv" or "dense"
    width : int, optional
        Filters of each convolution of the first stage (16 by default) or features of each dense layer (64).
    stages : int
        Of convolutions, of equal depth as far as possible.
    input_shape, classes, activation, norm, weight_scale, seed, dtype
        As for `mlp`.
    """
    depth = expect_integer("depth", depth, 2)
    expect_one_of("kind", kind, ("conv", "dense"))
    stages = expect_integer("stages", stages, 1)
    if stages > 1 and kind == "dense":
        raise ValueError(f"stages: expected 1 for dense layers, got {stages}")
    stack = Stack(input_shape, norm, activation, weight_scale)
    if kind == "dense":
        for _ in range(depth - 1):
            stack.dense(64 if width is None else width)
    else:
        _stack_stages(stack, depth - 1, stages, 16 if width is None else width)
        stack.node = GlobalAvgPool(name="pool")(stack.node)
    stack.head(classes)
    return stack.model(seed, dtype)


def _stack_stages(stack: Stack, count: int, stages: int, width: int) -> None:
    """Add `count` convolutions 3 x 3 in stages of twice the filters at half the resolution."""
    large = min(stack.node.shape[1:], default=0) >= 16  # then the first layer steps by two as well, to save time
    of_layer = [stages * index // count for index in range(count)]
    for index, stage in enumerate(of_layer):
        smaller = stage != of_layer[index - 1] if index else large
        stack.conv(width * 2**stage, stride=2 if smaller else 1)
