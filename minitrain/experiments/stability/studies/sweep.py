"""Trains one deep net over a range of one setting, with and without batch norm, from several seeds."""

from __future__ import annotations

from collections.abc import Callable

from minitrain.experiments.data import Data
from minitrain.experiments.nets import plain_net
from minitrain.experiments.stability.records.sides import SIDES, Side
from minitrain.experiments.stability.records.sweep import Entries, SweepEntry, SweepRun, SweepSettings
from minitrain.experiments.training import Recipe, train
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["net", "recipe", "sweep"]

Build = Callable[[float, bool, int], tuple[Model, Recipe]]


def sweep(data: Data, settings: SweepSettings, seed: int, build: Build, watch: Watch) -> Entries:
    """Return the runs without and with batch norm.

    `build(value, batch_norm, seed)` makes the net and says how it is trained.
    """

    def entry(side: Side, value: float) -> SweepEntry:
        runs = []
        for run_seed in range(seed, seed + settings.seeds):
            model, recipe = build(value, side == "with", run_seed)
            watch.run(settings.depth)
            runs.append(SweepRun(seed=run_seed, **vars(train(model, data, recipe, run_seed, watch))))
        return SweepEntry(value, runs)

    return Entries(*([entry(side, value) for value in settings.values] for side in SIDES))


def net(settings: SweepSettings, data: Data, batch_norm: bool, seed: int, weight_scale: float = 1.0) -> Model:
    """Return the net of a sweep for a data set."""
    return plain_net(
        settings.kind,
        settings.activation,
        settings.depth,
        batch_norm=batch_norm,
        image_shape=data.x_train.shape[1:],
        classes=data.classes,
        width=settings.width,
        seed=seed,
        weight_scale=weight_scale,
    )


def recipe(settings: SweepSettings, learning_rate: float) -> Recipe:
    """Return how the net is trained at a rate."""
    return Recipe(settings.steps, learning_rate, settings.momentum, settings.batch_size)
