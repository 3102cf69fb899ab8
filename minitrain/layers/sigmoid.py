"""Logistic function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layers._activation import Activation


@dataclass(frozen=True)
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), for x of any shape, without overflow for any x.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Sigmoid()(Input((100,))).shape
    (100,)
    """

    prefix: ClassVar[str] = "sigmoid"
    kernel = elementwise.sigmoid
    kernel_backward = elementwise.sigmoid_backward
    cost: ClassVar[int] = 4
