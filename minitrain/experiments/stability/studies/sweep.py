"""Trains one deep net over a range of one setting, with and without batch norm, from several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.nets import Activation, Kind, plain_net
from minitrain.experiments.training import Recipe, train
from minitrain.experiments.watch import Watch
from minitrain.model import Model

__all__ = ["SweepSettings", "sweep", "values_where_all"]

Build = Callable[[float, bool, int], tuple[Model, Recipe]]


@dataclass(frozen=True)
class SweepSettings:
    """The net of a sweep and how it is trained: plain SGD at a constant rate."""

    kind: Kind = "dense"
    activation: Activation = "relu"
    depth: int = 10
    width: int = 64
    seeds: int = 3
    steps: int = 300
    momentum: float = 0.0
    batch_size: int = 64

    def work(self, values: Sequence[float]) -> float:
        """Layers times steps of all runs."""
        return 2.0 * len(values) * self.seeds * self.depth * self.steps

    def net(self, data: Data, batch_norm: bool, seed: int, weight_scale: float = 1.0) -> Model:
        """Return the net for a data set."""
        return plain_net(
            self.kind,
            self.activation,
            self.depth,
            batch_norm=batch_norm,
            image_shape=data.x_train.shape[1:],
            classes=data.classes,
            width=self.width,
            seed=seed,
            weight_scale=weight_scale,
        )

    def recipe(self, learning_rate: float) -> Recipe:
        """Return how the net is trained at a rate."""
        return Recipe(self.steps, learning_rate, self.momentum, self.batch_size)


def sweep(
    data: Data, settings: SweepSettings, values: Sequence[float], seed: int, build: Build, watch: Watch
) -> dict[str, list[dict[str, Any]]]:
    """Return the runs with and without batch norm: {"with": [{"value": ..., "runs": [...]}, ...], "without": ...}.

    `build(value, batch_norm, seed)` makes the net and says how it is trained.
    """
    results: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    for side, entries in results.items():
        for value in values:
            runs = []
            for run_seed in range(seed, seed + settings.seeds):
                model, recipe = build(value, side == "with", run_seed)
                watch.run(settings.depth)
                runs.append({"seed": run_seed, **train(model, data, recipe, run_seed, watch)})
            entries.append({"value": value, "runs": runs})
    return results


def values_where_all(entries: Sequence[dict[str, Any]], *outcomes: str) -> list[float]:
    """Return the values at which the runs from all seeds had one of these outcomes."""
    return [entry["value"] for entry in entries if all(run["outcome"] in outcomes for run in entry["runs"])]
