"""Values inside a net by name, for a whole data set."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np
import numpy.typing as npt

from minitrain.compile.fusions import freeze
from minitrain.compile.inference_gradient import leading_to, learning_nothing
from minitrain.compile.plan import Plan
from minitrain.graph.graph import Graph, output_values
from minitrain.layer import TYPICAL_BATCH
from minitrain.model.run import Runnable
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer

__all__ = ["Stateful", "activations", "batches", "unknown_value", "values_of"]


class Stateful(Runnable, Protocol):
    @property
    def params(self) -> Mapping[str, Array]: ...
    @property
    def state(self) -> Mapping[str, Array]: ...
    @property
    def flat_state(self) -> npt.NDArray[np.uint8]: ...


def activations(
    model: Stateful, x: Array | Sequence[Array], names: str | Iterable[str] | None, batch_size: int, training: bool
) -> dict[str, Array]:
    """Do what `Model.activations` does.

    The graph is the user's, so that no fusion hides a value; everything else goes on as it would.
    """
    expect_boolean("training", training)
    wanted = _selected(names, values_of(model.graph))
    graph = leading_to(model.graph, {name: name for name in wanted})
    graph = learning_nothing(freeze(graph) if training else graph)
    arrays = model.check_inputs(x)
    samples = len(arrays[0])
    results: dict[str, Array] = {}
    plans: dict[int, Plan] = {}
    with model._plans.turn(training):
        state = model.flat_state.copy()
        try:
            for start, part in batches(arrays, batch_size):
                size = len(part[0])
                if size not in plans:
                    shapes = dict(zip(graph.inputs, (each.shape for each in part), strict=True))
                    gradients: dict[str, Array] | None = {} if training else None
                    plans[size] = Plan(graph, shapes, model.dtype, model.params, model.state, gradients, losses=())
                plan = plans[size]
                plan.load(part)
                plan.forward()
                for name, value in plan.outputs.items():
                    if name not in results:
                        results[name] = np.empty((samples, *value.shape[1:]), value.dtype)
                    results[name][start : start + size] = value[: samples - start]
        finally:
            if training:
                model.flat_state[...] = state
    return results


def batches(arrays: Sequence[Array], batch_size: int) -> Iterator[tuple[int, list[Array]]]:
    """Yield where each batch begins, and its arrays; one sample of zeros where there is none, for the shapes."""
    batch_size = expect_integer("batch_size", batch_size, 1)
    samples = len(arrays[0])
    if not samples:
        yield 0, [np.zeros((1, *each.shape[1:]), each.dtype) for each in arrays]
    for start in range(0, samples, batch_size):
        yield start, [each[start : start + batch_size] for each in arrays]


def values_of(graph: Graph) -> list[str]:
    """Return the names of all values in a graph: inputs, nodes, and further outputs of nodes such as "rnn1.h"."""
    declared = graph.declarations(TYPICAL_BATCH)
    return [*graph.inputs, *(value for node in graph.nodes for value in output_values(node, declared[node.name]))]


def _selected(names: str | Iterable[str] | None, known: Sequence[str]) -> list[str]:
    """Return the values that names and globs stand for, in the order given, in that of the graph for a glob."""
    if names is None:
        return list(known)
    selected: dict[str, None] = {}
    for name in (names,) if isinstance(names, str) else names:
        if not isinstance(name, str):
            raise TypeError(f"names: expected names of nodes, or globs, got {name!r}")
        found = [name] if name in known else [each for each in known if fnmatchcase(each, name)]
        if not found:
            raise unknown_value("names", name, known)
        selected.update(dict.fromkeys(found))
    if not selected:
        raise ValueError("names: expected one name or more, got none; leave names out for all")
    return list(selected)


def unknown_value(argument: str, name: str, known: Sequence[str]) -> ValueError:
    """Return the error for a name that no value has: it lists names that are like it, and all."""
    close = difflib.get_close_matches(name, known, 3)
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ";"
    return ValueError(f"{argument}: there is no {name!r} in this model{meant} It has {', '.join(known)}")
