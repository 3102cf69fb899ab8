"""The statistics that batch norms find for batches, and running statistics that move by those of several at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from nbnorm.kernels.batch_norm import ghosts

__all__ = ["PooledMove", "Pools", "forward_into"]

Pools = Mapping[str, Pooled]  # by the name of a running mean


def forward_into(plan: Plan, pools: Sequence[Pools]) -> None:
    """Run a training plan forward, and add what its norms find to those of them that each of `pools` asks for.

    Each layer is looked at right behind its call: where nobody needs its gradients, others write over what it keeps.
    """
    nodes = {node.name: node for node in plan.graph.nodes}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, _ in plan.forward_one_by_one():
            node, tensors = nodes[name], plan.tensors[name]
            if "running_mean" in vars(tensors) and "inv_std" in vars(tensors):
                mean = node.variable("running_mean")
                for each in (pool[mean] for pool in pools if mean in pool):
                    _add(each, node, tensors)


def _add(pooled: Pooled, node: GraphNode, t: Tensors) -> None:
    layer: Any = node.layer
    norm, x = getattr(layer, "norm", layer), t.xs[0].shape
    mean = np.atleast_2d(t.mean)
    var = np.maximum(np.atleast_2d(t.inv_std) ** -2.0 - norm.eps, 0.0)
    values = math.prod(x[2:])  # of a channel and a sample
    if "valid_count" in vars(t):
        pooled.add(int(t.valid_count[0]), mean[0], var[0])
    elif len(mean) == 1:
        pooled.add(x[0] * values, mean[0], var[0])
    else:
        for ghost, its_mean, its_var in zip(ghosts.of_samples(x[0], norm.ghost_size), mean, var, strict=True):
            pooled.add((ghost.stop - ghost.start) * values, its_mean, its_var)


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
        for mean, found in self.pools.items():
            if found.count > 1:
                state = SimpleNamespace(**self._state[mean])
                move_by(self._norms[mean].calls[0].layer, state, found.count, (found.mean, found.var))
