"""Experiment d: figure 1 of Ioffe & Szegedy 2015, three hidden layers of 100 sigmoid units, on our data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan
from minitrain.experiments.data import Data
from minitrain.experiments.nets import sigmoid_net
from minitrain.experiments.stability.studies.depth import best_rate
from minitrain.experiments.training import Recipe, finite, train
from minitrain.experiments.watch import Watch
from minitrain.model import Model
from minitrain.training.trainer import Trainer

__all__ = ["NAME", "PERCENTILES", "SigmoidSettings", "drifts", "run", "work"]

NAME = "Ioffe & Szegedy, figure 1"
PERCENTILES = (15, 50, 85)


@dataclass(frozen=True)
class SigmoidSettings:
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


def work(settings: SigmoidSettings) -> float:
    """Layers times steps of all runs."""
    runs = len(settings.learning_rates) + settings.seeds - 1
    return 2.0 * runs * settings.steps * (len(settings.hidden) + 1)


def run(data: Data, settings: SigmoidSettings, seed: int, watch: Watch) -> dict[str, Any]:
    """Train both nets; returns {"with": ..., "without": ...}."""
    return {
        side: _measure(data, settings, seed, watch, batch_norm)
        for side, batch_norm in (("without", False), ("with", True))
    }


def _measure(data: Data, settings: SigmoidSettings, seed: int, watch: Watch, batch_norm: bool) -> dict[str, Any]:
    def once(rate: float, run_seed: int) -> dict[str, Any]:
        model = sigmoid_net(
            batch_norm=batch_norm,
            image_shape=data.x_train.shape[1:],
            classes=data.classes,
            hidden=settings.hidden,
            std=settings.std,
            seed=run_seed,
        )
        probe = SigmoidProbe(model, data, settings)
        watch.run(len(settings.hidden) + 1)
        result = train(model, data, Recipe(settings.steps, rate, 0.0, settings.batch_size), run_seed, watch, probe)
        return {"seed": run_seed, "learning_rate": rate, **result, **probe.record()}

    trials = [once(rate, seed) for rate in settings.learning_rates]
    chosen = best_rate(trials)
    others = [once(chosen["learning_rate"], seed + number) for number in range(1, settings.seeds)]
    return {
        "learning_rate": chosen["learning_rate"],
        "runs": [chosen, *others],
        "other_rates": [trial for trial in trials if trial is not chosen],
    }


class SigmoidProbe:
    """Measures, over training, the test accuracy and the inputs of every unit of the last hidden layer's sigmoid."""

    def __init__(self, model: Model, data: Data, settings: SigmoidSettings) -> None:
        self._data = data
        # As in training: batch norm by the statistics of the images at hand, on a state of its own. All arrays are
        # kept, so that the sigmoid's input can be looked at after the whole pass.
        state = {name: value.copy() for name, value in model.state.items()}
        gradients = model.gradients
        self._plan = Plan(
            model.graph, len(data.x_test), model.dtype, model.params, state, gradients, share_memory=False
        )
        self._input_of = f"sigmoid{len(settings.hidden)}"
        self._due = set(np.linspace(0, settings.steps, settings.measurements + 1).round().astype(int).tolist())
        self._steps: list[int] = []
        self._accuracy: list[float | None] = []
        self._percentiles: list[npt.NDArray[np.float64]] = []  # each (3, units)

    def __call__(self, step: int, trainer: Trainer) -> None:
        """Measure if it is time."""
        if step not in self._due or step in self._steps:
            return
        self._plan.load(self._data.x_test)
        self._plan.forward()
        inputs = self._plan.tensors[self._input_of].x.astype(np.float64)
        self._steps.append(step)
        self._accuracy.append(finite(trainer.evaluate(self._data.x_test, self._data.y_test)["accuracy"]))
        self._percentiles.append(np.percentile(inputs, PERCENTILES, axis=0))

    def record(self) -> dict[str, Any]:
        """Return accuracy and percentiles over the steps; the latter of the typical unit, with all units' drifts."""
        percentiles = np.array(self._percentiles)
        drift = drifts(percentiles)
        typical = int(np.argsort(drift, kind="stable")[len(drift) // 2])
        return {
            "measured_at": self._steps,
            "accuracy": self._accuracy,
            "typical_unit": typical,
            "percentiles": {
                str(percentile): [finite(value) for value in percentiles[:, index, typical]]
                for index, percentile in enumerate(PERCENTILES)
            },
            "drift_of_units": [finite(value) for value in drift],
            "median_drift": finite(np.median(drift)),
        }


def drifts(percentiles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far each unit's median wandered, in widths of its distribution.

    `percentiles` is (measurements, 3, units); the drift is the largest less the smallest median over training, divided
    by the mean distance of the 15th and the 85th percentile: about 2 for a bell curve that moved by four deviations.
    """
    medians = percentiles[:, 1]
    width = (percentiles[:, 2] - percentiles[:, 0]).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        drift: npt.NDArray[np.float64] = (medians.max(axis=0) - medians.min(axis=0)) / width
    return drift
