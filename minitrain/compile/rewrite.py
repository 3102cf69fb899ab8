"""Graph to graph: a pattern says which nodes become one; this walks the graph and puts it there.

A pattern is a function that is asked at each node whether a chain of nodes that ends there has a better form. It
answers with a `Replacement` or None, and changes nothing: all its matches are found in the graph as it was, and are
then put in together. What the nodes before and after the chain are, and whether anybody else reads what would
disappear, it asks its `View`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minitrain.graph.graph import Graph, GraphNode
from minitrain.layer import Shape

__all__ = ["Pattern", "Replacement", "View", "rewrite"]

ORDINARY_BATCH = 32  # samples; the batch is not known yet, and what pays is asked for this one


class View:
    """A graph as patterns look at it.

    Attributes
    ----------
    graph : Graph
    dtype : dtype or None
        Of the model; None for patterns that fit any.
    """

    def __init__(self, graph: Graph, dtype: np.dtype | None = None) -> None:
        self.graph = graph
        self.dtype = dtype
        self._readers = graph.consumers()
        self._outputs = set(graph.outputs.values())
        self._nodes = {node.name: node for node in graph.nodes}

    def giver(self, value: str) -> GraphNode | None:
        """Return the node whose first output this is, or None: an input of the model, or another output."""
        return self._nodes.get(value)

    def readers(self, value: str) -> list[GraphNode]:
        """Return the nodes that read a value, one of them twice where it reads it twice."""
        return self._readers.get(value, [])

    def is_private(self, value: str) -> bool:
        """Return whether a value is read once, and nothing that the model returns: it may disappear."""
        return len(self.readers(value)) == 1 and value not in self._outputs

    def private_giver(self, value: str) -> GraphNode | None:
        """Return the node that gives this value to one reader alone, or None."""
        return self.giver(value) if self.is_private(value) else None

    def only_reader(self, node: GraphNode) -> GraphNode | None:
        """Return the one node that reads what this one gives, or None."""
        return self.readers(node.name)[0] if self.is_private(node.name) else None

    def input_shape(self, node: GraphNode) -> Shape:
        """Return the shape of a node's first input in an ordinary batch."""
        return self._shapes[node.inputs[0]]

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        return self.graph.shapes(ORDINARY_BATCH)


@dataclass(frozen=True)
class Replacement:
    """One node in the place of several.

    Attributes
    ----------
    nodes : tuple of GraphNode
        What disappears, in the order of the graph. The new node stands where the last of them stood, so that all it
        reads has been computed by then, and its output is what the last one's was.
    by : GraphNode
        Under the name of any of them.
    """

    nodes: tuple[GraphNode, ...]
    by: GraphNode


Pattern = Callable[[GraphNode, View], Replacement | None]


def rewrite(graph: Graph, patterns: Iterable[Pattern], dtype: np.dtype | None = None) -> Graph:
    """Return the graph after each of the patterns in turn: a later one sees what the earlier ones made."""
    for pattern in patterns:
        view = View(graph, dtype)
        found = [each for node in graph.nodes if (each := pattern(node, view)) is not None]
        graph = _replaced(graph, found) if found else graph
    return graph


def _replaced(graph: Graph, found: list[Replacement]) -> Graph:
    gone: set[str] = set()
    new: dict[str, GraphNode] = {}
    renamed: dict[str, str] = {}
    for replacement in found:
        names = [node.name for node in replacement.nodes]
        if not gone.isdisjoint(names):
            continue  # a node goes into one replacement, the first that is found
        gone.update(names)
        new[names[-1]] = replacement.by
        renamed[names[-1]] = replacement.by.name
    kept = [new.get(node.name, node) for node in graph.nodes if node.name in new or node.name not in gone]
    outputs = {name: _renamed(value, renamed) for name, value in graph.outputs.items()}
    return graph.with_nodes([_reading(node, renamed) for node in kept], outputs)


def _reading(node: GraphNode, renamed: Mapping[str, str]) -> GraphNode:
    return GraphNode(node.name, node.layer, tuple(_renamed(value, renamed) for value in node.inputs), node.names)


def _renamed(value: str, renamed: Mapping[str, str]) -> str:
    """Return the new name of a value: that of a node's first output, or "conv1.moments" for another one."""
    node, dot, output = value.partition(".")
    return f"{renamed.get(node, node)}{dot}{output}"
