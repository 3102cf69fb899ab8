"""Experiment d: figure 1 of Ioffe & Szegedy 2015, three hidden layers of 100 sigmoid units, on our data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure
from minitrain.experiments.nets import sigmoid_net
from minitrain.experiments.stability.figures.ioffe_szegedy import draw_sigmoid
from minitrain.experiments.stability.records.ioffe_szegedy import (
    PERCENTILES,
    InputsOfUnits,
    SigmoidResult,
    SigmoidRun,
    SigmoidSettings,
)
from minitrain.experiments.stability.words import ioffe_szegedy as words
from minitrain.experiments.training import Recipe, Tuned, finite, train, tune
from minitrain.experiments.watch import Watch
from minitrain.model import Model
from minitrain.training.trainer import Trainer

__all__ = ["IOFFE_SZEGEDY", "SigmoidProbe", "drifts"]


def run(data: Data, settings: SigmoidSettings, seed: int, watch: Watch) -> SigmoidResult:
    """Train both nets."""
    return SigmoidResult(*(_measure(data, settings, seed, watch, batch_norm) for batch_norm in (False, True)))


def _measure(data: Data, settings: SigmoidSettings, seed: int, watch: Watch, batch_norm: bool) -> Tuned[SigmoidRun]:
    def once(rate: float, run_seed: int) -> SigmoidRun:
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
        trained = train(model, data, Recipe(settings.steps, rate, 0.0, settings.batch_size), run_seed, watch, probe)
        return SigmoidRun(seed=run_seed, learning_rate=rate, **vars(trained), **vars(probe.record()))

    return tune(once, settings.learning_rates, seed, settings.seeds)


class SigmoidProbe:
    """Measures, over training, the test accuracy and the inputs of every unit of the last hidden layer's sigmoid."""

    def __init__(self, model: Model, data: Data, settings: SigmoidSettings) -> None:
        self._model = model
        self._data = data
        sigmoid = f"sigmoid{len(settings.hidden)}"
        (self._input_of_sigmoid,) = next(node.inputs for node in model.graph.nodes if node.name == sigmoid)
        self._due = set(np.linspace(0, settings.steps, settings.measurements + 1).round().astype(int).tolist())
        self._steps: list[int] = []
        self._accuracy: list[float | None] = []
        self._percentiles: list[npt.NDArray[np.float64]] = []  # each (3, units)

    def __call__(self, step: int, trainer: Trainer) -> None:
        """Measure if it is time."""
        if step not in self._due or step in self._steps:
            return
        # As in training: batch norm by the statistics of the images at hand, all of them at once.
        images, name = self._data.x_test, self._input_of_sigmoid
        values = self._model.activations(images, name, batch_size=len(images), training=True)
        inputs = values[name].astype(np.float64)
        self._steps.append(step)
        self._accuracy.append(finite(trainer.evaluate(self._data.x_test, self._data.y_test)["accuracy"]))
        self._percentiles.append(np.percentile(inputs, PERCENTILES, axis=0))

    def record(self) -> InputsOfUnits:
        """Return what was measured; the percentiles are those of the typical unit."""
        percentiles = np.array(self._percentiles)
        drift = drifts(percentiles)
        typical = int(np.argsort(drift, kind="stable")[len(drift) // 2])
        return InputsOfUnits(
            self._steps,
            self._accuracy,
            typical_unit=typical,
            percentiles={
                str(percentile): [finite(value) for value in percentiles[:, index, typical]]
                for index, percentile in enumerate(PERCENTILES)
            },
            drift_of_units=[finite(value) for value in drift],
            median_drift=finite(np.median(drift)),
        )


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


IOFFE_SZEGEDY = Experiment(
    name="ioffe_szegedy",
    title="Ioffe & Szegedy, figure 1",
    full=SigmoidSettings(),
    quick=SigmoidSettings(seeds=1, steps=1000),
    run=run,
    result=SigmoidResult,
    figures=(
        Figure(
            "ioffe_szegedy",
            "Ioffe & Szegedy 2015, figure 1",
            "Three hidden layers of sigmoid units: test accuracy over training, and the 15th, 50th and 85th percentile "
            "over the test images of what enters one unit of the last hidden sigmoid. The unit is the one whose drift "
            "is the median of its layer's; first seed.",
            draw_sigmoid,
            words.about,
        ),
    ),
    rows=words.rows,
    choices=words.choices,
)
