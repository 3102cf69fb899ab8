"""Batch normalization, a residual added, and ReLU in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example
from minitrain.layers._normalization import Normalization


@dataclass(frozen=True)
class BatchNormAddReLU(Normalization):
    """ReLU of BatchNorm(x) + residual, with the arguments, parameters and state of BatchNorm. Inputs: x, residual."""

    relu: ClassVar[bool] = True
    adds_residual: ClassVar[bool] = True
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), (4, 3, 5, 5)),
        Example((8, 4), (8, 4)),
        Example((3, 40, 9, 17), (3, 40, 9, 17), momentum=None),
    ]
