"""Batch normalization and ReLU in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example
from minitrain.layers._normalization import Normalization


@dataclass(frozen=True)
class BatchNormReLU(Normalization):
    """ReLU of a BatchNorm, with the arguments, parameters and state of BatchNorm. Backward finds the mask from x."""

    relu: ClassVar[bool] = True
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5)),
        Example((8, 4)),
        Example((4, 3, 5), momentum=None),
        Example((3, 40, 9, 17)),
    ]
