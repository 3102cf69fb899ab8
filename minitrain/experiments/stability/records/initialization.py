"""Settings and results of the study of the first weights' scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minitrain.experiments.record import Record
from minitrain.experiments.stability.records.sides import Pair
from minitrain.experiments.stability.records.sweep import Entries, SweepEntry, SweepSettings, values_where_all

__all__ = ["ScaleResult", "ScaleSettings", "TrainedScales", "summarize"]


@dataclass(frozen=True)
class ScaleSettings(SweepSettings):
    """One net whose first weights, the head's included, are multiplied by each of `scales`; one learning rate."""

    scales: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    learning_rate: float = 0.03

    @property
    def values(self) -> tuple[float, ...]:
        return self.scales


@dataclass(frozen=True)
class TrainedScales(Record):
    """From which scales a net is trained whatever the seed."""

    trained: list[float]
    lowest_accuracy: float
    highest_accuracy: float

    @property
    def width(self) -> float:
        """How far apart the accuracies are."""
        return self.highest_accuracy - self.lowest_accuracy


@dataclass(frozen=True)
class ScaleResult(Entries):
    """The runs of both nets, and what `summarize` finds in them."""

    summary: Pair[TrainedScales]


def summarize(entries: Entries) -> Pair[TrainedScales]:
    """Return the scales from which both nets are trained, and their lowest and highest accuracy."""
    return Pair(_trained_scales(entries.without), _trained_scales(entries.with_))


def _trained_scales(entries: Sequence[SweepEntry]) -> TrainedScales:
    accuracies = [run.test_accuracy for entry in entries for run in entry.runs]
    return TrainedScales(values_where_all(entries, "trained"), min(accuracies), max(accuracies))
