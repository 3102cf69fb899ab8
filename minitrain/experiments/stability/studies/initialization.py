"""Experiment c: how far the result depends on the scale of the first weights, with and without batch norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.stability.studies.sweep import SweepSettings, sweep, values_where_all
from minitrain.experiments.training import Recipe
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["NAME", "ScaleSettings", "run", "summarize", "work"]

NAME = "initialization"


@dataclass(frozen=True)
class ScaleSettings(SweepSettings):
    """One net whose first weights, the head's included, are multiplied by each of `scales`; one learning rate."""

    scales: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    learning_rate: float = 0.03


def work(settings: ScaleSettings) -> float:
    """Layers times steps of all runs."""
    return settings.work(settings.scales)


def run(data: Data, settings: ScaleSettings, seed: int, watch: Watch) -> dict[str, Any]:
    """Train from all scales; returns the runs and what `summarize` finds in them."""

    def build(scale: float, batch_norm: bool, run_seed: int) -> tuple[Model, Recipe]:
        return settings.net(data, batch_norm, run_seed, weight_scale=scale), settings.recipe(settings.learning_rate)

    results = sweep(data, settings, settings.scales, seed, build, watch)
    return {**results, "summary": summarize(results)}


def summarize(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the scales from which both nets are trained whatever the seed, and their lowest and highest accuracy."""
    summary = {}
    for side in ("without", "with"):
        accuracies = [run["test_accuracy"] for entry in results[side] for run in entry["runs"]]
        summary[side] = {
            "trained": values_where_all(results[side], "trained"),
            "lowest_accuracy": min(accuracies),
            "highest_accuracy": max(accuracies),
        }
    return summary
