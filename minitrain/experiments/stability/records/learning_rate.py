"""Settings and results of the study of learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minitrain.experiments.record import Record
from minitrain.experiments.stability.records.sides import Pair
from minitrain.experiments.stability.records.sweep import (
    Entries,
    SweepEntry,
    SweepSettings,
    values_where_all,
    values_where_any,
)

__all__ = ["RateResult", "RateSettings", "RateSummary", "StableRates", "summarize"]


@dataclass(frozen=True)
class RateSettings(SweepSettings):
    """One net over a range of constant rates. A rate is stable where the net is trained from every seed."""

    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

    @property
    def values(self) -> tuple[float, ...]:
        return self.learning_rates


@dataclass(frozen=True)
class StableRates(Record):
    """Which rates a net stands."""

    stable: list[float]
    largest_stable: float | None  # None where no rate is stable
    at_the_end: bool  # the largest rate of the range is still stable, so that the true limit is higher
    some_diverged: list[float]
    all_diverged: list[float]


@dataclass(frozen=True)
class RateSummary(Pair[StableRates]):
    """Which rates both nets stand."""

    ratio: float | None  # of the largest stable rates, with over without; None where one has none


@dataclass(frozen=True)
class RateResult(Entries):
    """The runs of both nets, and what `summarize` finds in them."""

    summary: RateSummary


def summarize(entries: Entries) -> RateSummary:
    """Return the largest stable rate of both nets, their ratio, and the rates at which runs diverged."""
    without, with_norm = (_stable_rates(each) for each in (entries.without, entries.with_))
    limits = without.largest_stable, with_norm.largest_stable
    return RateSummary(without, with_norm, None if limits[0] is None or limits[1] is None else limits[1] / limits[0])


def _stable_rates(entries: Sequence[SweepEntry]) -> StableRates:
    stable = values_where_all(entries, "trained")
    return StableRates(
        stable,
        largest_stable=max(stable, default=None),
        at_the_end=bool(stable) and max(stable) == max(entry.value for entry in entries),
        some_diverged=values_where_any(entries, "diverged"),
        all_diverged=values_where_all(entries, "diverged"),
    )
