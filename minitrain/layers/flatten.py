"""All axes but the batch in one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Declaration, Example, Layer, Spec, Tensors, only_input


@dataclass(frozen=True)
class Flatten(Layer):
    """View x (N, ...) as (N, features): what Dense takes. Costs nothing.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Flatten()(Input((8, 4, 4))).shape
    (128,)
    """

    prefix: ClassVar[str] = "flatten"
    examples: ClassVar[list[Example]] = [Example((4, 3, 5, 5)), Example((2, 7)), Example((3, 1, 1, 1))]

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs)
        return Declaration(outputs={"y": Spec((x[0], math.prod(x[1:])))}, same={"y": "x0", "dx0": "dy"})

    def forward(self, t: Tensors) -> None:
        """Do nothing: y is x."""

    def backward(self, t: Tensors) -> None:
        """Do nothing: dx is dy."""
