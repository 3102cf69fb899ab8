"""Hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layer import Tensors
from minitrain.layers._activation import Activation


@dataclass(frozen=True)
class Tanh(Activation):
    """y = tanh(x), for x of any shape.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Tanh()(Input((100,))).shape
    (100,)
    """

    prefix: ClassVar[str] = "tanh"
    kernel = elementwise.tanh
    kernel_backward = elementwise.tanh_backward
    cost: ClassVar[int] = 4

    def forward(self, t: Tensors) -> None:
        t.run(t.flat_x, t.flat_y)

    def backward(self, t: Tensors) -> None:
        if t.dx is not None:
            t.run_backward(t.flat_dy, t.flat_y, t.flat_dx)
