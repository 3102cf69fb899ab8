"""DenseNet-BC for small images: every layer of a block reads all that came before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.layers import AvgPool2d, Concat, GlobalAvgPool
from minitrain.model import Model
from minitrain.models._blocks import Blocks
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation
from nbnorm.jit.checks import expect_integer

__all__ = ["densenet_bc"]

BLOCKS = 3
BOTTLENECK = 4  # filters of the 1 x 1 convolution of a layer, in units of the growth


def densenet_bc(
    depth: int = 40,
    growth: int = 12,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return DenseNet-BC in its form for CIFAR (Huang et al. 2017, arXiv:1608.06993).

    conv1 of twice `growth` filters; three blocks whose layers (block2_layer1_conv1 ...) are a 1 x 1 convolution to
    four times `growth` filters and one of 3 x 3 to `growth`, put beside what they read; between the blocks a
    1 x 1 convolution to half of the channels and the mean of 2 x 2 (transition1); the mean over the plane, head. Norm
    and activation come before each convolution but the first. DenseNet-BC-40-12 has 176,122 parameters.

    Parameters
    ----------
    depth : int
        Layers with weights, 4 more than a multiple of 6.
    growth : int
        Channels that each layer adds.
    input_shape, classes, activation, norm, weight_scale, seed, dtype
        As for `mlp`.
    """
    depth = expect_integer("depth", depth, 10)
    growth = expect_integer("growth", growth)
    if depth % 6 != 4:
        raise ValueError(f"depth: expected 4 more than a multiple of 6, such as 40 or 100, got {depth}")
    builder = _Dense(input_shape, norm, activation, weight_scale)
    builder.node = builder.convolve("conv1", builder.node, 2 * growth, 3)
    for block in range(1, BLOCKS + 1):
        for layer in range(1, (depth - 4) // 6 + 1):
            builder.grow(f"block{block}_layer{layer}_", growth)
        if block < BLOCKS:
            builder.shrink(f"transition{block}_")
    builder.node = GlobalAvgPool(name="pool")(builder.activate("bn", "relu", builder.node))
    builder.head(classes)
    return builder.model(seed, dtype)


class _Dense(Blocks):
    """A stack that knows the layers of dense blocks."""

    def grow(self, prefix: str, growth: int) -> None:
        """Add `growth` channels to those that there are."""
        h = self.activate(prefix + "bn1", prefix + "relu1", self.node)
        h = self.convolve(prefix + "conv1", h, BOTTLENECK * growth, 1)
        h = self.activate(prefix + "bn2", prefix + "relu2", h)
        h = self.convolve(prefix + "conv2", h, growth, 3)
        self.node = Concat(name=prefix + "concat")(self.node, h)

    def shrink(self, prefix: str) -> None:
        """Halve the channels and the plane."""
        h = self.activate(prefix + "bn", prefix + "relu", self.node)
        h = self.convolve(prefix + "conv", h, self.node.shape[0] // 2, 1)
        self.node = AvgPool2d(2, name=prefix + "pool")(h)
