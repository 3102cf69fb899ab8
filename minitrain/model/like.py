"""Models over nodes that other models have: start from their variables, or say that they would be lost."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from minitrain.graph.graph import Graph, GraphNode
from minitrain.layer import TYPICAL_BATCH, Node
from minitrain.model.variables import declared_variables, first_value
from nbnorm.jit.arrays import Array

__all__ = ["Source", "known_names", "refuse_double_names", "refuse_trained", "take_over"]


class Source(Protocol):
    """What another model is asked for."""

    @property
    def graph(self) -> Graph: ...
    @property
    def params(self) -> Mapping[str, Array]: ...
    @property
    def state(self) -> Mapping[str, Array]: ...
    @property
    def seed(self) -> int: ...
    @property
    def _names(self) -> Mapping[Node, str]: ...


def known_names(like: Source, outputs: Iterable[Node]) -> Mapping[Node, str]:
    """Return the names that nodes of `like` keep: none where no layer's node is one of them, so that a net that was
    built anew gets the same names again."""
    reached: set[Node] = set()
    waiting = [node.call for node in outputs]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(each.call for each in node.inputs)
    return like._names if any(node.layer is not None and node in like._names for node in reached) else {}


def refuse_double_names(graph: Graph) -> None:
    """Raise ValueError where a new layer was given the name that a layer of the other model keeps."""
    names = [node.name for node in graph.nodes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"name: {name!r} stands for more than one layer; give the new one another name")


def take_over(graph: Graph, variables: Mapping[str, Array], like: Source) -> None:
    """Copy into `variables` of a graph what `like` has of them.

    A layer object that `like` has, too, takes the variables it has there; others those of the same name.

    Raises
    ------
    ValueError
        A variable of another shape, or none at all that both have.
    """
    theirs = {**like.params, **like.state}
    taken = {name: theirs[source] for name, source in _sources(graph, like) if source in theirs}
    if variables and not taken:
        raise ValueError(
            f"like: expected a model that has some of the layers, or of their names ({', '.join(variables)}), got one "
            f"with {', '.join(theirs) or 'no variables'}"
        )
    for name, value in taken.items():
        if value.shape != variables[name].shape:
            raise ValueError(
                f"{name}: the model given as like has the shape {value.shape}, here it would be "
                f"{variables[name].shape}; give the layer another name to start from the seed"
            )
    for name, value in taken.items():
        variables[name][...] = value


def _sources(graph: Graph, like: Source) -> Iterator[tuple[str, str]]:
    """Yield each variable of a graph, and the name under which `like` may have it."""
    calls = {id(node.layer): node for node in reversed(like.graph.nodes)}  # the first of each layer object
    for node, local in _variables_of(graph):
        there = calls.get(id(node.layer))
        name = node.variable(local)
        yield name, name if there is None else there.variable(local)


def _variables_of(graph: Graph) -> Iterator[tuple[GraphNode, str]]:
    """Yield each node with each of its layer's own names of parameters and state."""
    declared = graph.declarations(TYPICAL_BATCH)
    for node in graph.nodes:
        for local in (*declared[node.name].params, *declared[node.name].state):
            yield node, local


def refuse_trained(nodes: Mapping[Node, str], others: Iterable[Source]) -> None:
    """Raise ValueError where a model that lives has trained a layer of these nodes: its weights would be lost."""
    layers = [node for node in nodes if node.layer is not None]
    if _first_trained(layers, others) is None:
        return
    gc.collect()  # a model that nobody has any more is none
    name = _first_trained(layers, others)
    if name is not None:
        raise ValueError(
            f"{name}: this layer belongs to a model that was trained, or whose variables were set: pass like=model to "
            "start from its parameters and state, or build the layers anew to start from the seed"
        )


def _first_trained(nodes: Sequence[Node], others: Iterable[Source]) -> str | None:
    """Return a variable that is not what it was at first, by the name in the model that has it."""
    for other in list(others):
        shared = {other._names[node] for node in nodes if node in other._names}
        if not shared:
            continue
        params, state = declared_variables(other.graph)
        buffers, values = {**params, **state}, {**other.params, **other.state}
        for name in (node.variable(local) for node, local in _variables_of(other.graph) if node.name in shared):
            value = values[name]
            first = first_value(name, buffers[name], other.seed).astype(value.dtype)
            if not np.array_equal(first, value, equal_nan=value.dtype.kind == "f"):
                return name
    return None
