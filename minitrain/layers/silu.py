"""Sigmoid linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import elementwise
from minitrain.layers._activation import Activation


@dataclass(frozen=True)
class SiLU(Activation):
    """y = x / (1 + exp(-x)), x times its sigmoid, for x of any shape. Also called swish. As in PyTorch, -inf gives NaN.

    S. Elfwing, E. Uchibe & K. Doya, "Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning", Neural Networks 107, 2018, section 2.1.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.SiLU()(Input((16, 8, 8))).shape
    (16, 8, 8)
    """

    prefix: ClassVar[str] = "silu"
    kernel = elementwise.silu
    kernel_backward = elementwise.silu_backward
    cost: ClassVar[int] = 4

    def gradient_reads(self) -> str:
        return "x"  # y has the same value on both sides of its minimum, so it does not tell the gradient
