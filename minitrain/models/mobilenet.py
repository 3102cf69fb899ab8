"""MobileNets: depthwise convolutions of 3 x 3, and 1 x 1 convolutions that mix the channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.layers import Add, GlobalAvgPool
from minitrain.model import Model
from minitrain.models._blocks import Blocks
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation
from nbnorm.jit.checks import expect_number

__all__ = ["mobilenet_v1", "mobilenet_v2"]

# filters and stride of each pair of convolutions (arXiv:1704.04861, table 1)
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# expansion, filters, count and stride of each stage of inverted residuals (arXiv:1801.04381, table 2)
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v1(
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    width: float = 1.0,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return MobileNet (Howard et al. 2017, arXiv:1704.04861, table 1).

    conv1 in steps of two, then thirteen blocks (block1 ... block13), each of a depthwise convolution of 3 x 3 and a
    1 x 1 convolution, both with norm and activation; the mean over the plane, head. 4,231,976 parameters.

    Parameters
    ----------
    width : float
        Multiplies all filters; what results is rounded down.
    input_shape, classes, activation, norm, weight_scale, seed, dtype
        As for `mlp`.
    """
    width = expect_number("width", width, 1 / 32)
    builder = _Mobile(input_shape, norm, activation, weight_scale)
    builder.conv(int(32 * width), stride=2)
    for block, (filters, stride) in enumerate(PAIRS, start=1):
        builder.pair(f"block{block}_", int(filters * width), stride)
    builder.node = GlobalAvgPool(name="pool")(builder.node)
    builder.head(classes)
    return builder.model(seed, dtype)


def mobilenet_v2(
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    width: float = 1.0,
    *,
    activation: Activation = "relu6",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2), as torchvision has it, without dropout.

    conv1 in steps of two, then seven stages of inverted residuals (stage2_block1_conv1 ...): a 1 x 1 convolution to
    six times the channels, a depthwise one of 3 x 3, and a 1 x 1 convolution back, after which there is no
    activation; the input is added where it has the shape of the result. Then conv2 of 1 x 1, the mean over the plane,
    head. 3,504,872 parameters.

    Parameters
    ----------
    width : float
        Multiplies all filters, those of conv2 only above 1; what results is rounded to a multiple of 8.
    input_shape, classes, activation, weight_scale, seed, dtype
        As for `mlp`.
    norm : "before", "after" or None
        Batch norm before each activation and after the convolutions that have none; or after each activation, and
        none where there is no activation; or nowhere.
    """
    width = expect_number("width", width, 1 / 32)
    builder = _Mobile(input_shape, norm, activation, weight_scale)
    builder.conv(_of_eight(32 * width), stride=2)
    for stage, (expansion, filters, count, stride) in enumerate(INVERTED, start=1):
        for block in range(1, count + 1):
            prefix = f"stage{stage}_block{block}_"
            builder.inverted_residual(prefix, expansion, _of_eight(filters * width), stride if block == 1 else 1)
    builder.conv(_of_eight(1280 * max(1.0, width)), kernel_size=1)
    builder.node = GlobalAvgPool(name="pool")(builder.node)
    builder.head(classes)
    return builder.model(seed, dtype)


def _of_eight(filters: float) -> int:
    """Return the nearest multiple of 8, at least 8, and the next one where that is less than nine tenths."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


class _Mobile(Blocks):
    """A stack that knows the blocks of both versions."""

    def pair(self, prefix: str, filters: int, stride: int) -> None:
        """Add a depthwise convolution and a 1 x 1 convolution."""
        channels = self.node.shape[0]
        h = self.convolve_and_activate(prefix, 1, self.node, channels, 3, stride, groups=channels)
        self.node = self.convolve_and_activate(prefix, 2, h, filters, 1)

    def inverted_residual(self, prefix: str, expansion: int, filters: int, stride: int) -> None:
        """Add the convolutions to more channels (unless the expansion is 1), over the plane, and to few channels."""
        h, channels, number = self.node, self.node.shape[0] * expansion, 1
        if expansion > 1:
            h, number = self.convolve_and_activate(prefix, 1, h, channels, 1), 2
        h = self.convolve_and_activate(prefix, number, h, channels, 3, stride, groups=channels)
        h = self.convolve(f"{prefix}conv{number + 1}", h, filters, 1)
        h = self.normalize(f"{prefix}bn{number + 1}", h, "before")
        if stride == 1 and self.node.shape[0] == filters:
            h = Add(name=prefix + "add")(self.node, h)
        self.node = h
