"""Builds nets whose layers do not simply follow each other: convolutions, norms and activations by name."""

from __future__ import annotations

from minitrain.graph import Node
from minitrain.layers import BatchNorm, Conv2d
from minitrain.models._stack import Norm, Stack

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
            bias=self.norm != "before",
            weight_init=self.initializer(),
            name=name,
        )
        node: Node = layer(x)
        return node

    def normalize(self, name: str, x: Node, place: Norm) -> Node:
        """Add a batch norm where the net has its norms at this place; else return x."""
        return BatchNorm(name=name)(x) if self.norm == place else x

    def activate(self, norm_name: str, name: str, x: Node) -> Node:
        """Add an activation with the norm before or after it."""
        h = self.activation(name)(self.normalize(norm_name, x, "before"))
        return self.normalize(norm_name, h, "after")

    def convolve_and_activate(
        self, prefix: str, number: int, x: Node, filters: int, kernel_size: int, stride: int = 1, *, groups: int = 1
    ) -> Node:
        """Add <prefix>conv<number> with its norm and activation."""
        h = self.convolve(f"{prefix}conv{number}", x, filters, kernel_size, stride, groups=groups)
        return self.activate(f"{prefix}bn{number}", f"{prefix}relu{number}", h)
