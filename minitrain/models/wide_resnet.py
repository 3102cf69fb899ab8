"""Wide residual nets for small images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.layers import Add, GlobalAvgPool
from minitrain.model import Model
from minitrain.models._blocks import Blocks
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation
from nbnorm.jit.checks import expect_integer

__all__ = ["wide_resnet"]


def wide_resnet(
    depth: int = 16,
    width: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return a wide residual net (Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1), without dropout.

    conv1 of 16 filters; three stages of blocks with 16, 32 and 64 times `width` filters (stage2_block1_conv1 ...),
    the later ones at half the resolution; the mean over the plane, head. Norm and activation come before each
    convolution but the first; where a block changes the shape, its shortcut is a 1 x 1 convolution of what its first
    convolution reads. WRN-16-4 has 2,748,890 parameters.

    Parameters
    ----------
    depth : int
        Convolutions, those of the three shortcuts among them: 4 more than a multiple of 6.
    width : int
        Multiplies the filters of all blocks.
    input_shape, classes, activation, norm, weight_scale, seed, dtype
        As for `mlp`.
    """
    depth = expect_integer("depth", depth, 10)
    width = expect_integer("width", width)
    if depth % 6 != 4:
        raise ValueError(f"depth: expected 4 more than a multiple of 6, such as 16 or 28, got {depth}")
    builder = _Wide(input_shape, norm, activation, weight_scale)
    builder.node = builder.convolve("conv1", builder.node, 16, 3)
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width), start=1):
        for block in range(1, (depth - 4) // 6 + 1):
            builder.block(f"stage{stage}_block{block}_", filters, stride=2 if stage > 1 and block == 1 else 1)
    builder.node = GlobalAvgPool(name="pool")(builder.activate("bn", "relu", builder.node))
    builder.head(classes)
    return builder.model(seed, dtype)


class _Wide(Blocks):
    """A stack that knows residual blocks whose norms and activations come first."""

    def block(self, prefix: str, filters: int, stride: int) -> None:
        """Add two convolutions and the shortcut around them."""
        h = self.activate(prefix + "bn1", prefix + "relu1", self.node)
        shortcut = self.node
        if stride != 1 or shortcut.shape[0] != filters:
            shortcut = self.convolve(prefix + "shortcut", h, filters, 1, stride)
        h = self.convolve(prefix + "conv1", h, filters, 3, stride)
        h = self.activate(prefix + "bn2", prefix + "relu2", h)
        h = self.convolve(prefix + "conv2", h, filters, 3)
        self.node = Add(name=prefix + "add")(h, shortcut)
