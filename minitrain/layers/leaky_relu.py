"""Rectified linear unit with a small slope below zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layer import Example
from minitrain.layers._activation import Activation
from nbnorm.jit.checks import expect_number, set_checked


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """y = x where x > 0, negative_slope x elsewhere, for x of any shape.

    Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.LeakyReLU(0.2)(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    negative_slope: float = 0.01

    prefix: ClassVar[str] = "leaky_relu"
    kernel = elementwise.leaky_relu
    kernel_backward = elementwise.leaky_relu_backward
    examples: ClassVar[list[Example]] = [
        *Activation.examples,
        Example((4, 3, 5, 5), negative_slope=-0.5),
        Example((2, 6), negative_slope=0.0),
    ]

    def __post_init__(self) -> None:
        set_checked(self, negative_slope=expect_number("negative_slope", self.negative_slope))

    def gradient_reads(self) -> str:
        return "y" if self.negative_slope >= 0 else "x"  # a negative slope takes the sign from y

    def numbers(self) -> tuple[float, ...]:
        return (self.negative_slope,)
