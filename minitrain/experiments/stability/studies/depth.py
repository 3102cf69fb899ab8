"""Experiment a: plain nets of growing depth, with and without batch norm, and the gradients of all their layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from minitrain.experiments.data import Data
from minitrain.experiments.nets import Activation, Kind, plain_net, weight_names
from minitrain.experiments.training import Recipe, finite, train
from minitrain.experiments.watch import Watch
from minitrain.schedules import Cosine
from minitrain.training.trainer import Trainer

__all__ = ["NAME", "DepthSettings", "GradientProbe", "NetSettings", "best_rate", "run", "work"]

NAME = "depth"
PROBE_IMAGES = 64
CONV_WORK = 5.0  # a convolution takes about as long as this many dense layers


@dataclass(frozen=True)
class NetSettings:
    """Nets of one kind and how they are trained.

    Each net is trained at each of `learning_rates` from the first seed. The rate that ends with the lowest training
    loss is the net's own, chosen in the same way with and without batch norm; the other seeds are run at that rate.
    """

    kind: Kind
    width: int  # units of each dense layer, filters of the first convolutions
    batch_size: int
    learning_rates: tuple[float, ...]
    seeds: int

    @property
    def runs(self) -> int:
        """Runs of each net."""
        return len(self.learning_rates) + self.seeds - 1


@dataclass(frozen=True)
class DepthSettings:
    """What is compared: every kind of net, activation and depth. Rates fall to zero along half a cosine."""

    nets: tuple[NetSettings, ...] = (
        NetSettings("dense", width=64, batch_size=64, learning_rates=(0.01, 0.03, 0.1), seeds=2),
        # Most of the time goes here, so one rate: of 0.01 and 0.03 the one that ends with the lower training loss in
        # all but one of the nets that train at all, with and without batch norm.
        NetSettings("conv", width=8, batch_size=32, learning_rates=(0.03,), seeds=1),
    )
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    depths: tuple[int, ...] = (5, 10, 20, 40)
    steps: int = 250
    momentum: float = 0.9
    probes: int = 9  # steps at which all gradients are measured


def work(settings: DepthSettings) -> float:
    """Layers times steps of all runs."""
    runs = sum(kind.runs * (CONV_WORK if kind.kind == "conv" else 1.0) for kind in settings.nets)
    return 2.0 * len(settings.activations) * sum(settings.depths) * runs * settings.steps


def run(data: Data, settings: DepthSettings, seed: int, watch: Watch) -> dict[str, Any]:
    """Train all nets; returns {"nets": one entry for each kind, activation, depth, and with or without batch norm}."""
    cases = list(itertools.product(settings.nets, settings.activations, settings.depths, (False, True)))

    def measure(case: tuple[NetSettings, Activation, int, bool]) -> dict[str, Any]:
        return _measure(data, settings, seed, watch, *case)

    return {"nets": in_threads(measure, cases, watch)}


def in_threads(function: Callable[[Any], dict[str, Any]], cases: Sequence[Any], watch: Watch) -> list[dict[str, Any]]:
    """Return what `function` gives for each case, with as many cases at a time as kernels have threads.

    The nets are so small that a kernel does not pay for a second thread; two nets at a time do. Each stays what it
    is alone: kernels give the same bits for any number of threads.
    """
    threads = numba.get_num_threads()
    if threads == 1:
        return [function(case) for case in cases]
    # A count of threads belongs to the thread that sets it, and each case has one to itself.
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        try:
            return list(pool.map(function, cases))
        except BaseException:
            watch.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _measure(
    data: Data,
    settings: DepthSettings,
    seed: int,
    watch: Watch,
    nets: NetSettings,
    activation: Activation,
    depth: int,
    batch_norm: bool,
) -> dict[str, Any]:
    def once(rate: float, run_seed: int) -> dict[str, Any]:
        model = plain_net(
            nets.kind,
            activation,
            depth,
            batch_norm=batch_norm,
            image_shape=data.x_train.shape[1:],
            classes=data.classes,
            width=nets.width,
            seed=run_seed,
        )
        recipe = Recipe(settings.steps, Cosine(rate, settings.steps), settings.momentum, nets.batch_size)
        probe = GradientProbe(data, settings, weight_names(model), every=run_seed == seed)
        watch.run(depth * (CONV_WORK if nets.kind == "conv" else 1.0))
        result = train(model, data, recipe, run_seed, watch, probe)
        return {"seed": run_seed, "learning_rate": rate, **result, "gradients": probe.record()}

    trials = [once(rate, seed) for rate in nets.learning_rates]
    chosen = best_rate(trials)
    others = [once(chosen["learning_rate"], seed + number) for number in range(1, nets.seeds)]
    return {
        "kind": nets.kind,
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
