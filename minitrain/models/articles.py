"""The nets of the background articles on batch norm, for small images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.layers import Conv2d, GlobalAvgPool
from minitrain.model import Model
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation, Stack

__all__ = ["article_a", "article_b", "article_c"]


def article_a(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "after",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return three blocks of conv 3 x 3 + ReLU + batch norm, and a 1 x 1 convolution to the classes.

    32, 64 and 128 filters (conv1, conv2, conv3); the logits are the means of the last convolution's planes (head). The
    article trains it with Adam at 1e-3. Arguments as for `mlp`.
    """
    stack = Stack(input_shape, norm, activation, weight_scale, "after")
    for filters in (32, 64, 128):
        stack.conv(filters)
    stack.node = Conv2d(classes, 1, weight_init=stack.head_initializer(), name="head")(stack.node)
    stack.node = GlobalAvgPool(name="pool")(stack.node)
    return stack.model(seed, dtype)


def article_b(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "after",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return two blocks of conv 3 x 3 + ReLU + batch norm + pool, and a hidden dense layer.

    32 and 64 filters (conv1, conv2), then 128 features with ReLU and batch norm (dense1), then the logits (head). The
    article trains it with Adam and batches of 64. Arguments as for `mlp`.
    """
    stack = Stack(input_shape, norm, activation, weight_scale, "after")
    for filters in (32, 64):
        stack.conv(filters)
        stack.pool()
    stack.dense(128)
    stack.head(classes)
    return stack.model(seed, dtype)


def article_c(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "after",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return one block of conv 3 x 3 + ReLU + batch norm + pool, and the logits.

    32 filters (conv1), then a dense layer (head). Arguments as for `mlp`.
    """
    stack = Stack(input_shape, norm, activation, weight_scale, "after")
    stack.conv(32)
    stack.pool()
    stack.head(classes)
    return stack.model(seed, dtype)
