"""Rectified linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layers._activation import Activation


@dataclass(frozen=True)
class ReLU(Activation):
    """y = max(x, 0), for x of any shape. NaN stays NaN; the gradient at 0 is 0.

    Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.ReLU()(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    prefix: ClassVar[str] = "relu"
    kernel = elementwise.leaky_relu
    kernel_backward = elementwise.leaky_relu_backward

    def numbers(self) -> tuple[float, ...]:
        return (0.0,)  # the slope
