"""What the two studies of one net over a range of one setting have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from minitrain.experiments.experiment import ExperimentSettings
from minitrain.experiments.nets import Activation, Kind
from minitrain.experiments.record import Record
from minitrain.experiments.stability.records.sides import Pair
from minitrain.experiments.training import Seeded, Trained

__all__ = ["Entries", "SweepEntry", "SweepRun", "SweepSettings", "values_where_all", "values_where_any"]


@dataclass(frozen=True)
class SweepSettings(ExperimentSettings):
    """The net of a sweep and how it is trained: plain SGD at a constant rate."""

    kind: Kind = "dense"
    activation: Activation = "relu"
    depth: int = 10
    width: int = 64
    seeds: int = 3
    steps: int = 300
    momentum: float = 0.0
    batch_size: int = 64

    @property
    @abstractmethod
    def values(self) -> tuple[float, ...]:
        """The range."""

    def work(self) -> float:
        return 2.0 * len(self.values) * self.seeds * self.depth * self.steps


@dataclass(frozen=True)
class SweepRun(Trained, Seeded):
    """A run at one value."""


@dataclass(frozen=True)
class SweepEntry(Record):
    """The runs at one value."""

    value: float
    runs: list[SweepRun]


@dataclass(frozen=True)
class Entries(Pair[list[SweepEntry]]):
    """The runs at all values."""


def values_where_all(entries: Sequence[SweepEntry], outcome: str) -> list[float]:
    """Return the values at which the runs from all seeds had this outcome."""
    return [entry.value for entry in entries if all(run.outcome == outcome for run in entry.runs)]


def values_where_any(entries: Sequence[SweepEntry], outcome: str) -> list[float]:
    """Return the values at which a run had this outcome."""
    return [entry.value for entry in entries if any(run.outcome == outcome for run in entry.runs)]
