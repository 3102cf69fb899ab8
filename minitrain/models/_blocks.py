"""Builds nets whose layers do not simply follow each other: convolutions, norms and activations by name."""

from __future__ import annotations

from minitrain.graph import Node
from minitrain.layers import Conv2d
from minitrain.models._stack import Stack

__all__ = ["Blocks"]


class Blocks(Stack):
    """A stack with the parts of blocks: each takes the node it reads and returns the one it makes."""

    def convolve(self, name: str, x: Node, filters: int, kernel_size: int, stride: int = 1, *, groups: int = 1) -> Node:
        """Add a convolution that keeps the plane, or divides it by the stride; without bias where a norm reads it."""
        layer = Conv2d(
            filters,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=groups,
            bias=self.norms.leaves_bias((filters, 1, 1)),
            weight_init=self.initializer(),
            name=name,
        )
        node: Node = layer(x)
        return node

    def convolve_and_activate(
        self, prefix: str, number: int, x: Node, filters: int, kernel_size: int, stride: int = 1, *, groups: int = 1
    ) -> Node:
        """Add <prefix>conv<number> with its norm and activation."""
        h = self.convolve(f"{prefix}conv{number}", x, filters, kernel_size, stride, groups=groups)
        return self.activate(f"{prefix}bn{number}", f"{prefix}relu{number}", h)
