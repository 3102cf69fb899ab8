"""The two that each study compares: nets without and with batch norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from minitrain.experiments.record import Record

__all__ = ["SIDES", "Pair", "Side"]

Side = Literal["without", "with"]
SIDES: tuple[Side, Side] = ("without", "with")
T = TypeVar("T")


@dataclass(frozen=True)
class Pair(Record, Generic[T]):
    """The same of both: `pair["without"]`, `pair["with"]`."""

    without: T
    with_: T

    def __getitem__(self, side: Side) -> T:
        return self.with_ if side == "with" else self.without
