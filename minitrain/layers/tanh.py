"""Hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
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
