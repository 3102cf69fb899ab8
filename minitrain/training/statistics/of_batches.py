"""The statistics that batch norms find for batches, and running statistics that move by those of several at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.graph.graph import GraphNode
from minitrain.layer import Tensors
from minitrain.layers._running import move_by
from minitrain.model import Model
from minitrain.training.statistics.norms import norms_of
from minitrain.training.statistics.pooled import Pooled
from nbnorm.jit.arrays import Array
from nbnorm.kernels.batch_norm import ghosts

__all__ = ["Found", "PooledMove", "Pools", "finds_statistics", "forward_into", "found_of"]

Pools = Mapping[str, Pooled]  # by the name of a running mean


@dataclass(frozen=True)
class Found:
    """Statistics of a batch, or of a ghost.

    Attributes
    ----------
    count : int
        Values of a channel.
    mean, var : array
        Of each channel; the variance is biased.
    """

    count: int
    mean: Array
    var: Array


def finds_statistics(t: Tensors) -> bool:
    """Return whether these are the arrays of a norm that finds statistics of its batch for running ones to follow."""
    return "running_mean" in vars(t) and "inv_std" in vars(t)


def forward_into(plan: Plan, pools: Sequence[Pools]) -> None:
    """Run a training plan forward, and add what its norms find to those of them that each of `pools` asks for.

    Each layer is looked at right behind its call: where nobody needs its gradients, others write over what it keeps.
    """
    nodes = {node.name: node for node in plan.graph.nodes}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, _ in plan.forward_one_by_one():
            node, tensors = nodes[name], plan.tensors[name]
            if finds_statistics(tensors):
                mean = node.variable("running_mean")
                for each in (pool[mean] for pool in pools if mean in pool):
                    for found in found_of(node, tensors):
                        each.add(found.count, found.mean, found.var)


def found_of(node: GraphNode, t: Tensors) -> Iterator[Found]:
    """Yield what a norm with running statistics has just found: of its batch, or of each ghost of it in turn."""
    layer: Any = node.layer
    norm, x = getattr(layer, "norm", layer), t.xs[0].shape
    mean = np.atleast_2d(t.mean)
    var = np.maximum(np.atleast_2d(t.inv_std) ** -2.0 - norm.eps, 0.0)
    values = math.prod(x[2:])  # of a channel and a sample
    if "valid_count" in vars(t):
        yield Found(int(t.valid_count[0]), mean[0].copy(), var[0])
    elif len(mean) == 1:
        yield Found(x[0] * values, mean[0].copy(), var[0])
    else:
        for ghost, its_mean, its_var in zip(ghosts.of_samples(x[0], norm.ghost_size), mean, var, strict=True):
            yield Found((ghost.stop - ghost.start) * values, its_mean.copy(), its_var)


class PooledMove:
    """One move of the running statistics of a model by the pooled statistics of several batches.

    Where a batch is cut into parts whose gradients are averaged, each part would move them, by noisier statistics and
    with k times the momentum. All parts are normalized beside the running statistics that there were at first.
    """

    def __init__(self, model: Model) -> None:
        self._norms = norms_of(model.graph)
        self._state = {mean: norm.state(model.state) for mean, norm in self._norms.items()}
        self._before = {mean: {name: each.copy() for name, each in own.items()} for mean, own in self._state.items()}
        self.pools: Pools = {mean: Pooled() for mean in self._norms}

    def undo(self) -> None:
        """Put the norms' state back to what it was: after each part."""
        for mean, own in self._state.items():
            for name, each in own.items():
                each[...] = self._before[mean][name]

    def move(self) -> None:
        """Move it, once: after the last part."""
        for mean, pooled in self.pools.items():
            self._move_by(mean, [pooled])

    def move_by_found(self, found: Mapping[str, Sequence[Found]], batches: int) -> None:
        """Move it by what was found for so many batches: as each of them does where it is one, else pooled.

        Of one batch, each ghost moves it in turn.
        """
        for mean, every in found.items():
            if mean not in self._norms:
                continue
            in_turn = batches == 1 and getattr(self._norms[mean].calls[0].layer, "ghost_size", None) is not None
            if in_turn:
                self._move_by(mean, every)
                continue
            pooled = Pooled()
            for each in every:
                pooled.add(each.count, each.mean, each.var)
            self._move_by(mean, [pooled])

    def _move_by(self, mean: str, every: Sequence[Found | Pooled]) -> None:
        state = SimpleNamespace(**self._state[mean])
        for each in every:
            if each.count > 1:
                move_by(self._norms[mean].calls[0].layer, state, each.count, (each.mean, each.var))
