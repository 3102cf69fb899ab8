"""What the activations share: y and dx have the shape of x, and the kernels see flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, only_input
from nbnorm.jit import Kernel


@dataclass(frozen=True)
class Activation(Layer):
    """Base of the activations without parameters: subclasses name their kernels and what one element costs."""

    kernel: ClassVar[Kernel]
    kernel_backward: ClassVar[Kernel]
    cost: ClassVar[int] = 1  # of one element, in additions: how soon several threads pay

    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5)),
        Example((8, 7)),
        Example((1, 1)),
        Example((3, 40, 9, 17)),
    ]

    def declare(self, *shapes: Shape) -> Declaration:
        return Declaration(outputs={"y": only_input(self, shapes)}, backward_reads=(self.backward_reads(),))

    def backward_reads(self) -> str:
        """Which of "x" and "y" the gradient is computed from."""
        return "y"

    def prepare(self, t: Tensors) -> None:
        t.flat_x, t.flat_y = t.x.reshape(-1), t.y.reshape(-1)
        t.run = self.kernel.for_work(t.x.size * self.cost)
        if t.dx is not None:
            t.flat_dx, t.flat_dy = t.dx.reshape(-1), t.dy.reshape(-1)
            t.run_backward = self.kernel_backward.for_work(t.x.size)
