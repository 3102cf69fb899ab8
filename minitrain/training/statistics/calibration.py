"""Running statistics of batch norms that are exactly those of a data set: precise batch norm.

Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv:2105.07576), section 3: moving averages lag behind the
weights and weigh the last batches most. There each layer's statistics are averaged over batches that the layers before
have normalized by batch. Here the layers before are normalized as in inference, by statistics that are found already:
one pass over the data for each norm that follows another one, and what comes out does not depend on batches at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minitrain import layers
from minitrain.compile.inference_gradient import leading_to, learning_nothing
from minitrain.compile.plan import Plan
from minitrain.data.stream import Stream, is_stream
from minitrain.graph.graph import Graph, GraphNode
from minitrain.layer import Shape
from minitrain.layers._arrays import as_3d
from minitrain.model import Model
from minitrain.model.activations import batches as in_batches
from minitrain.objective.objective import Objective
from minitrain.training.ranks.spread import Spread
from minitrain.training.statistics.norms import Norm, norms_of
from minitrain.training.statistics.pooled import Pooled
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_integer, mismatch
from nbnorm.kernels import batch_norm

__all__ = ["calibrate_on"]

MOST_PLANS = 8  # of different shapes, kept at a time
Moments = tuple[int, Array, Array]  # count, mean and biased variance of each channel
Batches = Callable[[], Iterable[Sequence[Array]]]


def _depths(graph: Graph, norms: Mapping[str, Norm]) -> dict[str, int]:
    """How many of these norms what each node reads has gone through, at most."""
    follows = {node.name for norm in norms.values() for node in norm.calls}
    read: dict[str, int] = {}
    given: dict[str, int] = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        read[node.name] = max(given[value.partition(".")[0] if value not in given else value] for value in node.inputs)
        given[node.name] = read[node.name] + (node.name in follows)
    return read


def _passes(model: Model) -> int:
    """Return how many passes over the data `calibrate` makes."""
    norms = norms_of(model.graph)
    depths = _depths(model.graph, norms)
    return max((depths[node.name] + 1 for norm in norms.values() for node in norm.calls), default=0)


def _calibrate(model: Model, batches: Batches, spread: Spread | None) -> None:
    """Do it on batches that are given anew for each pass, as lists of arrays that were checked."""
    norms = norms_of(model.graph)
    depths = _depths(model.graph, norms)
    last = _passes(model)
    with model._plans.turn(training=True):
        before, unbiased = model.flat_state.copy(), dict[str, Array]()
        try:
            for number in range(last):
                due = [norm for norm in norms.values() if any(depths[node.name] == number for node in norm.calls)]
                calls = {norm.mean: [node for node in norm.calls if depths[node.name] <= number] for norm in due}
                found = _statistics(model, calls, batches, spread)
                for norm in due:
                    _write(model, norm, found[norm.mean], unbiased)
            for name, var in unbiased.items():
                model.state[name][...] = var
        except BaseException:
            model.flat_state[...] = before
            raise


def calibrate_on(model: Model, objective: Objective, x: Any, batch_size: int, spread: Spread | None = None) -> None:
    """Do what `Trainer.calibrate` does; ranks share the batches."""
    batch_size = expect_integer("batch_size", batch_size, 1)
    if not is_stream(x):
        arrays = model.check_inputs(x)
        if not len(arrays[0]):
            raise ValueError(mismatch("x", "one or more samples", "none"))
        _calibrate(model, lambda: (part for _, part in in_batches(arrays, batch_size)), spread)
        return
    stream, passes = Stream(model, objective, x, "x"), _passes(model)
    if stream.is_one_shot and passes > 1:
        expected = f"what can be iterated over {passes} times (norms follow each other)"
        raise ValueError(mismatch("x", expected, "an iterator, which runs dry after one pass"))
    stream.check()
    _calibrate(model, lambda: (batch.inputs() for batch in stream.each()), spread)


def _write(model: Model, norm: Norm, found: Pooled, unbiased: dict[str, Array]) -> None:
    """Let the norms that follow see what they see in training: the biased variance, until all are found."""
    if found.count < 2:
        raise ValueError(mismatch(f"{norm.name}: x", "two or more (valid) values per channel", found.count))
    var = found.var
    with np.errstate(over="ignore"):
        model.state[norm.mean][...], model.state[norm.var][...] = found.mean, var
        unbiased[norm.var] = (found.squares / (found.count - 1)).astype(model.state[norm.var].dtype)
    if not (np.isfinite(model.state[norm.mean]).all() and np.isfinite(unbiased[norm.var]).all()):
        raise ValueError(
            f"{norm.name}: expected data whose mean and variance are finite in {model.dtype}, got others; look for NaN "
            "or infinities in x, or scale it"
        )


def _statistics(
    model: Model, calls: Mapping[str, Sequence[GraphNode]], batches: Batches, spread: Spread | None
) -> dict[str, Pooled]:
    """Pool what these calls read, in one pass over the data: in the bits of one process, whoever computes what."""
    pooled = {mean: Pooled() for mean in calls}
    reading = _Reading(model, [node for nodes in calls.values() for node in nodes])

    def moments(arrays: Sequence[Array]) -> list[tuple[str, Moments]]:
        values, found = reading.values(arrays), []
        for mean, nodes in calls.items():
            for node in nodes:
                masked = isinstance(node.layer, layers.BatchNorm) and len(node.inputs) == 2
                found.append((mean, _moments(values[node.inputs[0]], values[node.inputs[1]] if masked else None)))
        return found

    every = map(moments, batches()) if spread is None else spread.each_computed_once(batches(), moments)
    for of_batch in every:
        for mean, found in of_batch:
            pooled[mean].add(*found)
    return pooled


class _Reading:
    """The values that these nodes read, by name; they hold until the next batch."""

    def __init__(self, model: Model, nodes: Sequence[GraphNode]) -> None:
        inputs = model.graph.inputs
        wanted = dict.fromkeys(value for node in nodes for value in node.inputs)
        inner = {value: value for value in wanted if value not in inputs}
        self._model = model
        self._graph = learning_nothing(leading_to(model.graph, inner)) if inner else None
        self._plans: dict[tuple[Shape, ...], Plan] = {}

    def values(self, arrays: Sequence[Array]) -> dict[str, Array]:
        model = self._model
        values = {
            name: np.asarray(each, model.dtype if each.dtype.kind == "f" or spec.dtype is None else each.dtype)
            for (name, spec), each in zip(model.graph.inputs.items(), arrays, strict=True)
        }
        if self._graph is not None:
            plan = self._plan(self._graph, tuple(each.shape for each in arrays))
            plan.load(list(arrays))
            plan.forward()
            values |= plan.outputs
        return values

    def _plan(self, graph: Graph, shapes: tuple[Shape, ...]) -> Plan:
        model = self._model
        if shapes not in self._plans:
            if len(self._plans) == MOST_PLANS:
                self._plans.clear()
            by_name = dict(zip(model.graph.inputs, shapes, strict=True))
            self._plans[shapes] = Plan(graph, by_name, model.dtype, model.params, model.state)
        return self._plans[shapes]


def _moments(x: Array, mask: Array | None) -> Moments:
    """Return count, mean and biased variance of the (valid) values of each channel, in float64."""
    rows = as_3d(x)
    if mask is not None:
        if mask.dtype.kind != "b":
            mask = np.arange(rows.shape[2]) < mask[:, None]
        rows = np.moveaxis(rows, 1, -1)[mask.reshape(len(rows), -1)][:, :, None]
    count, channels = math.prod(rows.shape) // rows.shape[1], rows.shape[1]
    mean, spread = np.zeros((2, channels))
    if not count:
        return 0, mean, spread
    rows = np.ascontiguousarray(rows)
    unused, none = np.empty(channels, rows.dtype), nothing(rows.dtype)
    batch_norm.statistics(rows, unused, unused, none, none, 0.0, 0.0, mean, spread)
    with np.errstate(divide="ignore"):
        return count, mean, spread**-2.0  # what was written is 1 / sqrt(var)
