"""Residual nets: ResNet-20 for small images, ResNet-18, 34 and 50 for large ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.graph import Node
from minitrain.layers import Add, GlobalAvgPool, MaxPool2d
from minitrain.model import Model
from minitrain.models._blocks import Blocks
from minitrain.models._norms import Norm
from minitrain.models._stack import Activation

__all__ = ["resnet18", "resnet20", "resnet34", "resnet50"]

EXPANSION = 4  # of filters within a bottleneck to those it returns


def resnet20(
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return ResNet-20 in its form for CIFAR (He et al. 2016, arXiv:1512.03385, section 4.2).

    conv1, three stages of three blocks with 16, 32 and 64 filters (stage2_block1_conv1 ...), the mean over the plane,
    head: 20 layers with weights. The first block of the second and third stage takes steps of two, and its shortcut
    is a 1 x 1 convolution (stage2_block1_shortcut; option B of the paper, whose CIFAR nets pad with zeros instead: it
    costs 2,560 parameters more and loses no pixels).

    Arguments as for `mlp`. `norm` "before" is the paper's; "after" puts the norms behind the activations, the second
    of each block behind the activation of the sum.
    """
    builder = _Residual(input_shape, norm, activation, weight_scale)
    builder.conv(16)
    builder.stages((3, 3, 3), (16, 32, 64), bottlenecks=False)
    return builder.finish(classes, seed, dtype)


def resnet18(
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return ResNet-18 (He et al. 2016, arXiv:1512.03385, table 1), as torchvision has it.

    conv1 of 7 x 7 in steps of two, the largest of 3 x 3 in steps of two, four stages of two blocks each with 64, 128,
    256 and 512 filters (stage2_block1_conv1 ...), the mean over the plane, head. The first block of every later stage
    takes steps of two, and its shortcut is a 1 x 1 convolution with a norm. 11,689,512 parameters.

    Arguments as for `mlp`; `norm` as for `resnet20`.
    """
    builder = _Residual(input_shape, norm, activation, weight_scale)
    return builder.large((2, 2, 2, 2), classes, seed, dtype, bottlenecks=False)


def resnet34(
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return ResNet-34: `resnet18` with stages of 3, 4, 6 and 3 blocks. 21,797,672 parameters.

    Arguments as for `mlp`; `norm` as for `resnet20`.
    """
    builder = _Residual(input_shape, norm, activation, weight_scale)
    return builder.large((3, 4, 6, 3), classes, seed, dtype, bottlenecks=False)


def resnet50(
    input_shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    activation: Activation = "relu",
    norm: Norm = "before",
    weight_scale: float = 1.0,
    seed: int = 0,
    dtype: npt.DTypeLike = "float32",
) -> Model:
    """Return ResNet-50 in its form 1.5, as torchvision has it: steps of two are those of the 3 x 3 convolutions.

    As `resnet18`, with stages of 3, 4, 6 and 3 bottlenecks: 1 x 1, 3 x 3 and 1 x 1 convolutions, the last of which
    returns four times the filters. 25,557,032 parameters.

    Arguments as for `mlp`; `norm` as for `resnet20`.
    """
    builder = _Residual(input_shape, norm, activation, weight_scale)
    return builder.large((3, 4, 6, 3), classes, seed, dtype, bottlenecks=True)


class _Residual(Blocks):
    """A stack that knows residual blocks."""

    def large(self, counts: Sequence[int], classes: int, seed: int, dtype: npt.DTypeLike, bottlenecks: bool) -> Model:
        """Return the net for large images with this many blocks in its stages."""
        self.conv(64, kernel_size=7, stride=2)
        self.node = MaxPool2d(3, 2, 1, name="pool1")(self.node)
        self.stages(counts, (64, 128, 256, 512), bottlenecks)
        return self.finish(classes, seed, dtype)

    def finish(self, classes: int, seed: int, dtype: npt.DTypeLike) -> Model:
        """Return the net with the mean over the plane and the head."""
        self.node = GlobalAvgPool(name="pool")(self.node)
        self.head(classes)
        return self.model(seed, dtype)

    def stages(self, counts: Sequence[int], widths: Sequence[int], bottlenecks: bool) -> None:
        """Add the blocks; every stage but the first begins with a step of two."""
        add = self.bottleneck if bottlenecks else self.block
        for stage, (count, filters) in enumerate(zip(counts, widths, strict=True), start=1):
            for block in range(1, count + 1):
                add(f"stage{stage}_block{block}_", filters, stride=2 if stage > 1 and block == 1 else 1)

    def block(self, prefix: str, filters: int, stride: int) -> None:
        """Add two convolutions and the shortcut around them."""
        shortcut = self.shortcut(prefix, filters, stride)
        h = self.convolve_and_activate(prefix, 1, self.node, filters, 3, stride)
        h = self.convolve(prefix + "conv2", h, filters, 3)
        self.join(prefix, 2, h, shortcut)

    def bottleneck(self, prefix: str, filters: int, stride: int) -> None:
        """Add three convolutions, the middle one of 3 x 3, and the shortcut around them."""
        shortcut = self.shortcut(prefix, EXPANSION * filters, stride)
        h = self.convolve_and_activate(prefix, 1, self.node, filters, 1)
        h = self.convolve_and_activate(prefix, 2, h, filters, 3, stride)
        h = self.convolve(prefix + "conv3", h, EXPANSION * filters, 1)
        self.join(prefix, 3, h, shortcut)

    def shortcut(self, prefix: str, filters: int, stride: int) -> Node:
        """Return what goes around a block: the net so far, or where its shape changes a 1 x 1 convolution of it."""
        if stride == 1 and self.node.shape[0] == filters:
            return self.node
        h = self.convolve(prefix + "shortcut", self.node, filters, 1, stride)
        return self.normalize(prefix + "shortcut_bn", h, "before")

    def join(self, prefix: str, number: int, h: Node, shortcut: Node) -> None:
        """Add the shortcut to the last convolution of a block, with its norm, and the activation of the sum."""
        h = self.normalize(f"{prefix}bn{number}", h, "before")
        h = self.activation(f"{prefix}relu{number}")(Add(name=prefix + "add")(h, shortcut))
        self.node = self.normalize(f"{prefix}bn{number}", h, "after")
