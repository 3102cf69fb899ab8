"""Settings and results of figure 1 of Ioffe & Szegedy 2015."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minitrain.experiments.experiment import ExperimentSettings
from minitrain.experiments.record import Record
from minitrain.experiments.stability.records.sides import Pair
from minitrain.experiments.training import TrainedTrial, Tuned

__all__ = ["PERCENTILES", "InputsOfUnits", "SigmoidResult", "SigmoidRun", "SigmoidSettings", "mean_drift", "steps_to"]

PERCENTILES = (15, 50, 85)


@dataclass(frozen=True)
class SigmoidSettings(ExperimentSettings):
    """Sizes and batch of the paper; it names neither the rate nor the deviation of the Gaussian.

    Both nets are trained at each of `learning_rates` from the first seed and keep the rate that ends with the lowest
    training loss; the other seeds are run at that rate. Plain SGD at a constant rate, as in the paper.
    """

    hidden: tuple[int, ...] = (100, 100, 100)
    std: float = 0.1
    learning_rates: tuple[float, ...] = (0.3, 1.0)
    seeds: int = 3
    steps: int = 1500
    batch_size: int = 60
    measurements: int = 40

    def work(self) -> float:
        runs = len(self.learning_rates) + self.seeds - 1
        return 2.0 * runs * self.steps * (len(self.hidden) + 1)


@dataclass(frozen=True)
class InputsOfUnits(Record):
    """Test accuracy, and what enters the units of the last hidden sigmoid, over training."""

    measured_at: list[int]  # steps
    accuracy: list[float | None]
    typical_unit: int  # the one with the median drift
    percentiles: dict[str, list[float | None]]  # of its input over the test images, for each step: "15", "50", "85"
    drift_of_units: list[float | None]  # see `drifts`
    median_drift: float | None


@dataclass(frozen=True)
class SigmoidRun(InputsOfUnits, TrainedTrial):
    """A run of one net."""


@dataclass(frozen=True)
class SigmoidResult(Pair[Tuned[SigmoidRun]]):
    """The runs of both nets."""


def steps_to(runs: Sequence[SigmoidRun], accuracy: float) -> int | None:
    """Return the first measured step at which the mean accuracy over the runs reaches a level; None if never."""
    for number, step in enumerate(runs[0].measured_at):
        values = [run.accuracy[number] for run in runs if number < len(run.accuracy)]
        known = [value for value in values if value is not None]
        if len(known) == len(runs) and np.mean(known) >= accuracy:
            return step
    return None


def mean_drift(runs: Sequence[SigmoidRun]) -> float:
    """Return the mean over some runs of a typical unit's drift, in widths of its distribution."""
    return float(np.mean([np.nan if run.median_drift is None else run.median_drift for run in runs]))
