"""Settings and results of the study of depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minitrain.experiments.experiment import ExperimentSettings
from minitrain.experiments.nets import Activation, Kind
from minitrain.experiments.record import Record
from minitrain.experiments.stability.records.sides import Pair, Side
from minitrain.experiments.training import TrainedTrial, Tuned
from minitrain.experiments.words import mean_accuracy

__all__ = ["DepthCase", "DepthNet", "DepthResult", "DepthRun", "DepthSettings", "Gradients", "NetSettings"]

CONV_WORK = 5.0  # a convolution takes about as long as this many dense layers


@dataclass(frozen=True)
class NetSettings(Record):
    """Nets of one kind and how they are trained.

    Each net is trained at each of `learning_rates` from the first seed. The rate that ends with the lowest training
    loss is the net's own, chosen in the same way with and without batch norm; the other seeds are run at that rate.
    """

    kind: Kind
    width: int  # units of each dense layer, filters of the first convolutions
    batch_size: int
    learning_rates: tuple[float, ...]
    seeds: int
    steps: int | None = None  # of these nets; None: those of the study

    @property
    def runs(self) -> int:
        """Runs of each net."""
        return len(self.learning_rates) + self.seeds - 1

    def layers_of_work(self, depth: int) -> float:
        """Return how much work a step of a net of `depth` layers is."""
        return depth * (CONV_WORK if self.kind == "conv" else 1.0)


@dataclass(frozen=True)
class DepthSettings(ExperimentSettings):
    """What is compared: every kind of net, activation and depth. Rates fall to zero along half a cosine."""

    nets: tuple[NetSettings, ...] = (
        NetSettings("dense", width=64, batch_size=64, learning_rates=(0.01, 0.03, 0.1), seeds=2),
        # Most of the time goes here, so one rate: of 0.01 and 0.03 the one that ends with the lower training loss in
        # all but one of the nets that train at all, with and without batch norm.
        NetSettings("conv", width=8, batch_size=32, learning_rates=(0.03,), seeds=3, steps=400),
    )
    activations: tuple[Activation, ...] = ("relu", "sigmoid")
    depths: tuple[int, ...] = (5, 10, 20, 40)
    steps: int = 250
    momentum: float = 0.9
    probes: int = 9  # steps at which all gradients are measured

    def work(self) -> float:
        work = sum(
            nets.runs * nets.layers_of_work(depth) * self.steps_of(nets) for nets in self.nets for depth in self.depths
        )
        return 2.0 * len(self.activations) * work

    def steps_of(self, nets: NetSettings) -> int:
        """Return the steps of each run of these nets."""
        return self.steps if nets.steps is None else nets.steps


@dataclass(frozen=True)
class Gradients(Record):
    """Norms of the gradients of all layers' weights over training."""

    weights: list[str]  # their names, from the first layer to the last
    steps: list[int]  # at which they were measured
    norms: list[list[float | None]]  # for each step that of every layer; None: not finite


@dataclass(frozen=True)
class DepthRun(TrainedTrial):
    """A run of one net."""

    gradients: Gradients


@dataclass(frozen=True)
class DepthCase(Record):
    """Which net."""

    kind: Kind
    activation: Activation
    depth: int
    batch_norm: bool

    @property
    def group(self) -> tuple[Kind, Activation]:
        """What nets have in common that differ in depth and batch norm."""
        return self.kind, self.activation


@dataclass(frozen=True)
class DepthNet(Tuned[DepthRun], DepthCase):
    """All runs of one net."""

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over the seeds."""
        return mean_accuracy(self.runs)

    def first_gradient_ratio(self) -> float:
        """Return the norm of the first layer's gradient over that of the last hidden one, at initialization.

        The geometric mean of the seeds; 0 where a gradient vanished altogether.
        """
        ratios = []
        for run in self.runs:
            norms = run.gradients.norms[0]
            first, last = norms[0], norms[-2]
            if first is None or not last:
                return np.inf if first is None else np.nan
            ratios.append(first / last)
        with np.errstate(divide="ignore"):
            return float(np.exp(np.mean(np.log(ratios))))


@dataclass(frozen=True)
class DepthResult(Record):
    """An entry for each kind, activation, depth, and without and with batch norm."""

    nets: list[DepthNet]

    @property
    def depths(self) -> list[int]:
        """From the shallowest to the deepest."""
        return sorted({net.depth for net in self.nets})

    @property
    def groups(self) -> list[tuple[Kind, Activation]]:
        """The kinds of net in the order of the runs."""
        return list(dict.fromkeys(net.group for net in self.nets))

    def nets_of(self, group: tuple[Kind, Activation], side: Side) -> list[DepthNet]:
        """Return the nets of a kind on one side, from the first depth to the last."""
        return [net for net in self.nets if net.group == group and net.batch_norm == (side == "with")]

    def pairs(self, depth: int) -> list[Pair[DepthNet]]:
        """Return the nets of a depth, a pair for each kind."""
        nets = [net for net in self.nets if net.depth == depth]
        without = {net.group: net for net in nets if not net.batch_norm}
        return [Pair(without[net.group], net) for net in nets if net.batch_norm]

    def deepest_pairs(self) -> list[Pair[DepthNet]]:
        """Return the deepest nets, a pair for each kind."""
        return self.pairs(self.depths[-1])
