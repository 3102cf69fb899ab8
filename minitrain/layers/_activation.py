"""What the activations share: y and dx have the shape of x, and the kernels see flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minitrain.kernels.calls import in_order
from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, only_input
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

    def declare(self, *inputs: Spec) -> Declaration:
        return Declaration(outputs={"y": Spec(only_input(self, inputs))}, backward_reads=(self.gradient_reads(),))

    def gradient_reads(self) -> str:
        """Which of "x" and "y" the gradient is computed from."""
        return "y"

    def numbers(self) -> tuple[float, ...]:
        """What the kernels take between what they read and what they write."""
        return ()

    def bind_forward(self, t: Tensors) -> None:
        run = self.kernel.for_work(t.x.size * self.cost)
        t.run_forward = partial(run, t.x.reshape(-1), *self.numbers(), t.y.reshape(-1))

    def bind_backward(self, t: Tensors) -> None:
        if t.dx is None:
            t.run_backward = in_order()
            return
        run, read = self.kernel_backward.for_work(t.x.size), t.y if self.gradient_reads() == "y" else t.x
        t.run_backward = partial(run, t.dy.reshape(-1), read.reshape(-1), *self.numbers(), t.dx.reshape(-1))

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
