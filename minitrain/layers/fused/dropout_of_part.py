"""Dropout of one part of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example
from minitrain.layers.dropout import Dropout
from nbnorm.jit.checks import expect_integer, set_checked

__all__ = ["DropoutOfPart"]


@dataclass(frozen=True)
class DropoutOfPart(Dropout):
    """A Dropout that sets to zero in a part of a batch what it would in the whole.

    Parameters
    ----------
    p : float
        See `Dropout`.
    first_sample : int
        Position in the batch of the first sample of x.
    """

    first_sample: int = 0  # type: ignore[misc]  # of the class in Dropout, where it is 0

    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), first_sample=3),
        Example((2, 3), p=0.1, first_sample=0),
        Example((3, 40, 9, 17), p=0.3, first_sample=2),
    ]

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, first_sample=expect_integer("first_sample", self.first_sample, 0))
