"""The graph that a trained net is when it is differentiated by its inputs: running statistics, no dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from minitrain import layers
from minitrain.compile.fusions import FREEZING, fuse, fuse_for_training
from minitrain.compile.rewrite import rewrite
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


def differentiable(graph: Graph, fused: bool, dtype: np.dtype) -> Graph:
    """Return a graph for training plans that computes what a user's graph does in inference, and learns nothing.

    Raises
    ------
    ValueError
        A layer whose statistics follow the data and that has no frozen form.
    """
    nodes: list[GraphNode] = []
    same: dict[str, str] = {}  # a value that is another one
    for node in graph.nodes:
        inputs = tuple(same.get(value, value) for value in node.inputs)
        if isinstance(node.layer, layers.Dropout):
            same[node.name] = inputs[0]
        else:
            nodes.append(GraphNode(node.name, node.layer, inputs, node.names))
    outputs = {name: same.get(value, value) for name, value in graph.outputs.items()}
    still = learning_nothing(graph.with_nodes(nodes, outputs))
    frozen = rewrite(fuse(still) if fused else still, FREEZING)
    for node in frozen.nodes:
        if node.layer.statistics:
            raise ValueError(
                f"{node.name}: expected a layer that can be differentiated by its running statistics, got a "
                f"{type(node.layer).__name__}, which has no frozen form"
            )
    return fuse_for_training(frozen, dtype) if fused else frozen


def learning_nothing(graph: Graph) -> Graph:
    """Return the graph with all parameters and statistics frozen."""
    declared = graph.declarations(TYPICAL_BATCH)
    names = (
        node.variable(local) for node in graph.nodes for local in (*declared[node.name].params, *node.layer.statistics)
    )
    return replace(graph, frozen=frozenset(names))


def infers_its_own_way(layer: Layer) -> bool:
    """Return whether a layer that is not minitrain's says itself what it does in inference."""
    return not type(layer).infer.__module__.startswith("minitrain.layer")
