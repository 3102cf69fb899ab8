"""Experiment c: how far the result depends on the scale of the first weights, with and without batch norm."""

from __future__ import annotations

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure
from minitrain.experiments.stability.figures.initialization import draw_scales
from minitrain.experiments.stability.records.initialization import ScaleResult, ScaleSettings, summarize
from minitrain.experiments.stability.studies.sweep import net, recipe, sweep
from minitrain.experiments.stability.words import initialization as words
from minitrain.experiments.training import Recipe
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["INITIALIZATION"]


def run(data: Data, settings: ScaleSettings, seed: int, watch: Watch) -> ScaleResult:
    """Train from all scales."""

    def build(scale: float, batch_norm: bool, run_seed: int) -> tuple[Model, Recipe]:
        model = net(settings, data, batch_norm, run_seed, weight_scale=scale)
        return model, recipe(settings, settings.learning_rate)

    entries = sweep(data, settings, seed, build, watch)
    return ScaleResult(entries.without, entries.with_, summarize(entries))


INITIALIZATION = Experiment(
    name="initialization",
    title="initialization",
    full=ScaleSettings(),
    quick=ScaleSettings(seeds=1, steps=200),
    run=run,
    result=ScaleResult,
    figures=(
        Figure(
            "initialization",
            "Scale of the first weights",
            "The same net from first weights multiplied by a factor, all at one learning rate.",
            draw_scales,
            words.about,
        ),
    ),
    rows=words.rows,
    choices=words.choices,
)
