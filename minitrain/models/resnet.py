"""ResNet-20 for small images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from minitrain.graph import Node
from minitrain.layers import Add, BatchNorm, Conv2d, GlobalAvgPool
from minitrain.model import Model
from minitrain.models._stack import Activation, Norm, Stack

__all__ = ["resnet20"]

STAGES = (16, 32, 64)  # filters
BLOCKS = 3  # of two convolutions each, in each stage


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
    builder = _Blocks(input_shape, norm, activation, weight_scale)
    builder.conv(STAGES[0])
    for stage, filters in enumerate(STAGES, start=1):
        for block in range(1, BLOCKS + 1):
            builder.block(f"stage{stage}_block{block}_", filters, stride=2 if stage > 1 and block == 1 else 1)
    builder.node = GlobalAvgPool(name="pool")(builder.node)
    builder.head(classes)
    return builder.model(seed, dtype)


class _Blocks(Stack):
    """A stack that knows residual blocks."""

    def block(self, prefix: str, filters: int, stride: int) -> None:
        """Add two convolutions and the shortcut around them."""
        shortcut = self.node
        if stride != 1 or shortcut.shape[0] != filters:
            shortcut = self._convolve(prefix + "shortcut", shortcut, filters, 1, stride)
            shortcut = self._norm(prefix + "shortcut_bn", shortcut, "before")
        h = self._convolve(prefix + "conv1", self.node, filters, 3, stride)
        h = self._norm(prefix + "bn1", h, "before")
        h = self.activation(prefix + "relu1")(h)
        h = self._norm(prefix + "bn1", h, "after")
        h = self._convolve(prefix + "conv2", h, filters, 3, 1)
        h = self._norm(prefix + "bn2", h, "before")
        h = self.activation(prefix + "relu2")(Add(name=prefix + "add")(h, shortcut))
        self.node = self._norm(prefix + "bn2", h, "after")

    def _convolve(self, name: str, x: Node, filters: int, kernel_size: int, stride: int) -> Node:
        layer = Conv2d(
            filters,
            kernel_size,
            stride,
            kernel_size // 2,
            bias=self.norm != "before",
            weight_init=self.initializer(),
            name=name,
        )
        node: Node = layer(x)
        return node

    def _norm(self, name: str, x: Node, place: Norm) -> Node:
        return BatchNorm(name=name)(x) if self.norm == place else x
