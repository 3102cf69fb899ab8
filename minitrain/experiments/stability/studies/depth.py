"""Experiment a: plain nets of growing depth, with and without batch norm, and the gradients of all their layers."""

from __future__ import annotations

import itertools

import numpy as np

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure
from minitrain.experiments.nets import plain_net, weight_names
from minitrain.experiments.stability.figures.depth import draw_depth
from minitrain.experiments.stability.figures.gradients import draw_first_gradients, draw_gradients
from minitrain.experiments.stability.records.depth import (
    DepthCase,
    DepthNet,
    DepthResult,
    DepthRun,
    DepthSettings,
    Gradients,
    NetSettings,
)
from minitrain.experiments.stability.words import depth as words
from minitrain.experiments.training import Recipe, finite, in_threads, train, tune
from minitrain.experiments.watch import Watch
from minitrain.schedules import Cosine
from minitrain.training.trainer import Trainer

__all__ = ["DEPTH", "GradientProbe"]

PROBE_IMAGES = 64


def run(data: Data, settings: DepthSettings, seed: int, watch: Watch) -> DepthResult:
    """Train all nets."""
    cases = [
        (nets, DepthCase(nets.kind, activation, depth, batch_norm))
        for nets, activation, depth, batch_norm in itertools.product(
            settings.nets, settings.activations, settings.depths, (False, True)
        )
    ]
    return DepthResult(in_threads(lambda case: _measure(data, settings, seed, watch, *case), cases, watch))


def _measure(
    data: Data, settings: DepthSettings, seed: int, watch: Watch, nets: NetSettings, case: DepthCase
) -> DepthNet:
    def once(rate: float, run_seed: int) -> DepthRun:
        model = plain_net(
            case.kind,
            case.activation,
            case.depth,
            batch_norm=case.batch_norm,
            image_shape=data.x_train.shape[1:],
            classes=data.classes,
            width=nets.width,
            seed=run_seed,
        )
        steps = settings.steps_of(nets)
        recipe = Recipe(steps, Cosine(rate, steps), settings.momentum, nets.batch_size)
        due = probed(steps, settings.probes) if run_seed == seed else {0}
        probe = GradientProbe(data, weight_names(model), due)
        watch.run(nets.layers_of_work(case.depth))
        trained = train(model, data, recipe, run_seed, watch, probe)
        return DepthRun(seed=run_seed, learning_rate=rate, gradients=probe.record(), **vars(trained))

    tuned = tune(once, nets.learning_rates, seed, nets.seeds)
    return DepthNet(**vars(case), **vars(tuned))


def probed(steps: int, count: int) -> set[int]:
    """Return about so many steps from 0 to the last, closer together early on."""
    later = np.geomspace(1, steps, max(count - 1, 1)).round().astype(int)
    return {0, *later.tolist()}


class GradientProbe:
    """Measures the norm of the gradient of every layer's weights, on one batch that stays the same.

    Parameters
    ----------
    data
    names : list of str
        The weights.
    due : set of int
        The steps at which it measures.
    """

    def __init__(self, data: Data, names: list[str], due: set[int]) -> None:
        count = min(PROBE_IMAGES, len(data.x_train))
        self._batch = data.x_train[:count], data.y_train[:count]
        self._names = names
        self._due = due
        self._steps: list[int] = []
        self._norms: list[list[float | None]] = []

    def __call__(self, step: int, trainer: Trainer) -> None:
        """Measure if it is time."""
        if step not in self._due or step in self._steps:
            return
        _, gradients = trainer.gradients(*self._batch)
        self._steps.append(step)
        self._norms.append([finite(np.linalg.norm(gradients[name].astype(np.float64))) for name in self._names])

    def record(self) -> Gradients:
        """Return what was measured."""
        return Gradients(self._names, self._steps, self._norms)


DEPTH = Experiment(
    name="depth",
    title="depth",
    full=DepthSettings(),
    quick=DepthSettings(
        nets=(
            NetSettings("dense", width=64, batch_size=64, learning_rates=(0.03,), seeds=1),
            NetSettings("conv", width=8, batch_size=32, learning_rates=(0.03,), seeds=1),
        ),
        depths=(5, 20, 40),
        steps=200,
    ),
    run=run,
    result=DepthResult,
    figures=(
        Figure(
            "depth",
            "Depth",
            "Test accuracy and test loss after training, against the number of layers. Marks are means over the seeds, "
            "bars reach from the lowest seed to the highest; the dotted line is guessing.",
            draw_depth,
            words.about_depth,
        ),
        Figure(
            "gradients_at_start",
            "Gradients at initialization",
            "The norm of the gradient of every layer's weights before the first step, on one batch (thick: the deepest "
            "nets, geometric mean and range of the seeds). Norms below 1e-10, and zeros, are drawn at 1e-10.",
            draw_first_gradients,
            words.about_gradients_at_start,
        ),
        Figure(
            "gradients_in_training",
            "Gradients during training",
            "The same norms for the deepest nets at some steps of training, first seed; the steps are not evenly "
            "spaced.",
            draw_gradients,
            words.about_gradients_in_training,
        ),
    ),
    rows=words.rows,
    choices=words.choices,
)
