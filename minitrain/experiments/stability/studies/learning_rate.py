"""Experiment b: which learning rates a deep net stands, with and without batch norm (Bjorck et al. 2018)."""

from __future__ import annotations

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure
from minitrain.experiments.stability.figures.learning_rate import draw_rates
from minitrain.experiments.stability.records.learning_rate import RateResult, RateSettings, summarize
from minitrain.experiments.stability.studies.sweep import net, recipe, sweep
from minitrain.experiments.stability.words import learning_rate as words
from minitrain.experiments.training import Recipe
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["LEARNING_RATE"]


def run(data: Data, settings: RateSettings, seed: int, watch: Watch) -> RateResult:
    """Train at all rates."""

    def build(rate: float, batch_norm: bool, run_seed: int) -> tuple[Model, Recipe]:
        return net(settings, data, batch_norm, run_seed), recipe(settings, rate)

    entries = sweep(data, settings, seed, build, watch)
    return RateResult(entries.without, entries.with_, summarize(entries))


LEARNING_RATE = Experiment(
    name="learning_rate",
    title="learning rate",
    full=RateSettings(),
    quick=RateSettings(seeds=1, steps=200),
    run=run,
    result=RateResult,
    figures=(
        Figure(
            "learning_rate",
            "Learning rate",
            "One net at constant learning rates. Lines join the medians over the seeds, faint marks are single runs, "
            "crosses are runs that diverged.",
            draw_rates,
            words.about,
        ),
    ),
    rows=words.rows,
    choices=words.choices,
)
