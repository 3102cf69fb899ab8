"""Experiment b: which learning rates a deep net stands, with and without batch norm (Bjorck et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.stability.studies.sweep import SweepSettings, sweep, values_where_all
from minitrain.experiments.training import Recipe
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["NAME", "RateSettings", "run", "summarize", "work"]

NAME = "learning rate"


@dataclass(frozen=True)
class RateSettings(SweepSettings):
    """One net over a range of constant rates. A rate is stable where the net is trained from every seed."""

    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def work(settings: RateSettings) -> float:
    """Layers times steps of all runs."""
    return settings.work(settings.learning_rates)


def run(data: Data, settings: RateSettings, seed: int, watch: Watch) -> dict[str, Any]:
    """Train at all rates; returns the runs and what `summarize` finds in them."""

    def build(rate: float, batch_norm: bool, run_seed: int) -> tuple[Model, Recipe]:
        return settings.net(data, batch_norm, run_seed), settings.recipe(rate)

    results = sweep(data, settings, settings.learning_rates, seed, build, watch)
    return {**results, "summary": summarize(results)}


def summarize(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the largest stable rate of both nets, their ratio, and the rates at which runs diverged.

    "largest_stable" is None where no rate is stable, "ratio" then too; "at_the_end" is True where the largest rate of
    the range is still stable, so that the true limit is higher.
    """
    summary: dict[str, Any] = {}
    for side in ("without", "with"):
        stable = values_where_all(results[side], "trained")
        diverged = [entry["value"] for entry in results[side] if _any(entry, "diverged")]
        summary[side] = {
            "stable": stable,
            "largest_stable": max(stable, default=None),
            "at_the_end": bool(stable) and max(stable) == max(entry["value"] for entry in results[side]),
            "some_diverged": diverged,
            "all_diverged": values_where_all(results[side], "diverged"),
        }
    without, with_norm = (summary[side]["largest_stable"] for side in ("without", "with"))
    summary["ratio"] = None if without is None or with_norm is None else with_norm / without
    return summary


def _any(entry: dict[str, Any], outcome: str) -> bool:
    return any(run["outcome"] == outcome for run in entry["runs"])
