"""Rectified linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layer import Tensors
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

    def forward(self, t: Tensors) -> None:
        t.run(t.flat_x, 0.0, t.flat_y)

    def backward(self, t: Tensors) -> None:
        if t.dx is not None:
            t.run_backward(t.flat_dy, t.flat_y, 0.0, t.flat_dx)
