"""The graph that a trained net is when it is differentiated by its inputs: running statistics, no dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from minitrain import layers
from minitrain.graph.graph import Graph, GraphNode
from minitrain.layer import TYPICAL_BATCH, Layer

__all__ = ["differentiable", "infers_its_own_way", "leading_to", "learning_nothing"]


def leading_to(graph: Graph, outputs: Mapping[str, str]) -> Graph:
    """Return the part of a graph that these outputs (names to values) depend on, with all the inputs."""
    needed = {value.partition(".")[0] for value in outputs.values()}
    kept: list[GraphNode] = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            kept.append(node)
            needed.update(value.partition(".")[0] for value in node.inputs)
    return graph.with_nodes(kept[::-1], outputs)


def differentiable(graph: Graph) -> Graph:
    """Return a graph for training plans that computes what a user's graph does in inference, and learns nothing."""
    nodes: list[GraphNode] = []
    same: dict[str, str] = {}  # a value that is another one
    for node in graph.nodes:
        inputs = tuple(same.get(value, value) for value in node.inputs)
        if isinstance(node.layer, layers.Dropout):
            same[node.name] = inputs[0]
            continue
        nodes.append(GraphNode(node.name, node.layer, inputs, node.names))
    return learning_nothing(
        graph.with_nodes(nodes, {name: same.get(each, each) for name, each in graph.outputs.items()})
    )


def learning_nothing(graph: Graph) -> Graph:
    """Return the graph with all parameters frozen."""
    declared = graph.declarations(TYPICAL_BATCH)
    names = {node.variable(local) for node in graph.nodes for local in declared[node.name].params}
    return replace(graph, frozen=frozenset(names))


def infers_its_own_way(layer: Layer) -> bool:
    """Return whether a layer that is not minitrain's says itself what it does in inference."""
    return not type(layer).infer.__module__.startswith("minitrain.layer")
