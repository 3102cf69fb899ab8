"""Experiment a: plain nets of growing depth, with and without batch norm, and the gradients of all their layers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitrain.experiments.data import Data
from minitrain.experiments.nets import Activation, Kind, plain_net, weight_names
from minitrain.experiments.training import Recipe, finite, train
from minitrain.experiments.watch import Watch
from minitrain.schedules import Cosine
from minitrain.trainer import Trainer

__all__ = ["NAME", "DepthSettings", "GradientProbe", "best_rate", "run", "work"]

NAME = "depth"
PROBE_IMAGES = 256


@dataclass(frozen=True)
class DepthSettings:
    """What is compared.

    Each net is trained at each of `learning_rates` from the first seed. The rate that ends with the lowest training
    loss is the net's own, chosen in the same way with and without batch norm; the other seeds are run at that rate.
    Rates fall to zero along half a cosine.
    """

    kinds: tuple[Kind, ...] = ("dense", "conv")
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    depths: tuple[int, ...] = (5, 10, 20, 40)
    learning_rates: tuple[float, ...] = (0.01, 0.1)
    dense_seeds: int = 3
    conv_seeds: int = 2  # they take most of the time
    steps: int = 300
    momentum: float = 0.9
    batch_size: int = 32
    dense_width: int = 64
    conv_width: int = 8
    probes: int = 9  # steps at which all gradients are measured

    def width(self, kind: Kind) -> int:
        """Units of each dense layer, or filters of the first convolutions."""
        return self.dense_width if kind == "dense" else self.conv_width

    def seeds(self, kind: Kind) -> int:
        """Number of seeds."""
        return self.dense_seeds if kind == "dense" else self.conv_seeds


def work(settings: DepthSettings) -> float:
    """Layers times steps of all runs."""
    runs = sum(len(settings.learning_rates) + settings.seeds(kind) - 1 for kind in settings.kinds)
    return 2.0 * len(settings.activations) * sum(settings.depths) * runs * settings.steps


def run(data: Data, settings: DepthSettings, seed: int, watch: Watch) -> dict[str, Any]:
    """Train all nets; returns {"nets": one entry for each kind, activation, depth, and with or without batch norm}."""
    cases = itertools.product(settings.kinds, settings.activations, settings.depths, (False, True))
    return {"nets": [_measure(data, settings, seed, watch, *case) for case in cases]}


def _measure(
    data: Data,
    settings: DepthSettings,
    seed: int,
    watch: Watch,
    kind: Kind,
    activation: Activation,
    depth: int,
    batch_norm: bool,
) -> dict[str, Any]:
    def once(rate: float, run_seed: int) -> dict[str, Any]:
        model = plain_net(
            kind,
            activation,
            depth,
            batch_norm=batch_norm,
            image_shape=data.x_train.shape[1:],
            classes=data.classes,
            width=settings.width(kind),
            seed=run_seed,
        )
        recipe = Recipe(settings.steps, Cosine(rate, settings.steps), settings.momentum, settings.batch_size)
        probe = GradientProbe(data, settings, weight_names(model), every=run_seed == seed)
        watch.run(depth)
        result = train(model, data, recipe, run_seed, watch, probe)
        return {"seed": run_seed, "learning_rate": rate, **result, "gradients": probe.record()}

    trials = [once(rate, seed) for rate in settings.learning_rates]
    chosen = best_rate(trials)
    others = [once(chosen["learning_rate"], seed + number) for number in range(1, settings.seeds(kind))]
    return {
        "kind": kind,
        "activation": activation,
        "depth": depth,
        "batch_norm": batch_norm,
        "learning_rate": chosen["learning_rate"],
        "runs": [chosen, *others],
        "other_rates": [trial for trial in trials if trial is not chosen],
    }


def best_rate(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the lowest final training loss; one that broke off only where all did."""
    return min(trials, key=lambda trial: _or_infinity(trial["final_training_loss"]))


def _or_infinity(loss: float | None) -> float:
    return np.inf if loss is None else loss


class GradientProbe:
    """Measures the norm of the gradient of every layer's weights, on one batch that stays the same.

    Parameters
    ----------
    data, settings
    names : list of str
        The weights.
    every : bool
        At about `settings.probes` steps, closer together early on; else at initialization alone.
    """

    def __init__(self, data: Data, settings: DepthSettings, names: list[str], every: bool) -> None:
        count = min(PROBE_IMAGES, len(data.x_train))
        self._batch = data.x_train[:count], data.y_train[:count]
        self._names = names
        later = np.geomspace(1, settings.steps, max(settings.probes - 1, 1)).round().astype(int)
        self._due = {0, *later.tolist()} if every else {0}
        self._steps: list[int] = []
        self._norms: list[list[float | None]] = []

    def __call__(self, step: int, trainer: Trainer) -> None:
        """Measure if it is time."""
        if step not in self._due or step in self._steps:
            return
        _, gradients = trainer.gradients(*self._batch)
        self._steps.append(step)
        self._norms.append([finite(np.linalg.norm(gradients[name].astype(np.float64))) for name in self._names])

    def record(self) -> dict[str, Any]:
        """Return the layers' names, the steps, and for each step the norm of every layer (None: not finite)."""
        return {"weights": self._names, "steps": self._steps, "norms": self._norms}
