"""Graph to graph: patterns of layers that one layer does faster.

A fused layer is an ordinary layer. It keeps the names of the parameters and state it takes over, so that a checkpoint
does not know what was fused.
"""

from collections.abc import Callable

import numpy as np

from minitrain import layers
from minitrain.graph import Graph, GraphNode
from minitrain.layer import Layer
from minitrain.layers import fused

__all__ = ["fold_batch_norms", "fuse", "fuse_for_training"]


def fuse(graph: Graph) -> Graph:
    """Return the graph with every pattern replaced that pays."""
    for rewrite in (_fuse_batch_norm_relu, _fuse_batch_norm_add_relu):
        graph = rewrite(graph)
    return graph


def fuse_for_training(graph: Graph, dtype: np.dtype) -> Graph:
    """BatchNormReLU, Conv2d -> BatchNormReLUConv2d, where the convolution's kernels normalize: after `fuse`."""
    if dtype != np.float32:
        return graph
    consumers, shapes = graph.consumers(), graph.shapes(2)
    norms = {node.name: node for node in graph.nodes if isinstance(node.layer, fused.BatchNormReLU)}
    new: dict[str, GraphNode] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        norm = norms.get(node.inputs[0])
        alone = norm is not None and len(consumers[norm.name]) == 1 and norm.name != graph.output
        if norm is None or not alone or not isinstance(node.layer, layers.Conv2d):
            continue
        if node.layer.geometry(shapes[norm.inputs[0]]).normalizes:
            layer = fused.BatchNormReLUConv2d(norm.layer, node.layer)  # type: ignore[arg-type]
            declared = node.layer.declare(shapes[norm.inputs[0]])
            names = _norm_names(norm) | {local: node.variable(local) for local in declared.params}
            new[node.name] = GraphNode(node.name, layer, norm.inputs, names)
            gone.add(norm.name)
    kept = [new.get(node.name, node) for node in graph.nodes if node.name not in gone]
    return graph.with_nodes(kept, graph.output)


def fold_batch_norms(graph: Graph) -> Graph:
    """Conv2d, BatchNorm or a fused form of it -> Conv2dBatchNorm: for inference, on a graph that `fuse` returned."""
    consumers, shapes = graph.consumers(), graph.shapes(2)
    norms = {
        node.inputs[0]: node
        for node in graph.nodes
        if isinstance(node.layer, (layers.BatchNorm, fused.BatchNormReLU, fused.BatchNormAddReLU))
    }
    kept: dict[str, GraphNode] = {}
    for node in graph.nodes:
        norm = norms.get(node.name)
        alone = len(consumers.get(node.name, ())) == 1 and node.name != graph.output
        if norm is not None and alone and isinstance(node.layer, layers.Conv2d):
            layer = fused.Conv2dBatchNorm(node.layer, norm.layer)  # type: ignore[arg-type]
            declared = node.layer.declare(shapes[node.inputs[0]])
            names = {local: node.variable(local) for local in declared.params} | _norm_names(norm)
            kept[norm.name] = GraphNode(norm.name, layer, (node.inputs[0], *norm.inputs[1:]), names)
        else:
            kept.setdefault(node.name, node)
    order = [node.name for node in graph.nodes if node.name in kept]
    return graph.with_nodes([kept[name] for name in order], graph.output)


def _norm_names(norm: GraphNode) -> dict[str, str]:
    declared = norm.layer.declare(*((2, 2) for _ in norm.inputs))
    return {local: norm.variable(local) for local in (*declared.params, *declared.state)}


def _fuse_batch_norm_relu(graph: Graph) -> Graph:
    """BatchNorm, ReLU -> BatchNormReLU."""

    def match(relu: GraphNode, producer: Callable[[str], GraphNode | None]) -> tuple[GraphNode, GraphNode] | None:
        norm = producer(relu.inputs[0])
        if norm is None or not isinstance(norm.layer, layers.BatchNorm):
            return None
        layer = fused.BatchNormReLU(momentum=norm.layer.momentum, eps=norm.layer.eps)
        return norm, _take_over(norm, layer, norm.inputs)

    return _replace_at_relu(graph, match)


def _fuse_batch_norm_add_relu(graph: Graph) -> Graph:
    """BatchNorm, Add of its output and one more value, ReLU -> BatchNormAddReLU."""

    def match(relu: GraphNode, producer: Callable[[str], GraphNode | None]) -> tuple[GraphNode, ...] | None:
        add = producer(relu.inputs[0])
        if add is None or not isinstance(add.layer, layers.Add) or len(add.inputs) != 2:
            return None
        for value, residual in (add.inputs, add.inputs[::-1]):
            norm = producer(value)
            if norm is not None and isinstance(norm.layer, layers.BatchNorm):
                layer = fused.BatchNormAddReLU(momentum=norm.layer.momentum, eps=norm.layer.eps)
                return norm, add, _take_over(norm, layer, (*norm.inputs, residual))
        return None

    return _replace_at_relu(graph, match)


def _take_over(norm: GraphNode, layer: Layer, inputs: tuple[str, ...]) -> GraphNode:
    return GraphNode(norm.name, layer, inputs, _norm_names(norm))


def _replace_at_relu(graph: Graph, match: Callable[..., tuple[GraphNode, ...] | None]) -> Graph:
    """Replace chains that end in a ReLU; `match` returns the nodes that go and the one that comes, or None.

    Only values that nobody else reads may disappear. The new node stands where the ReLU stood, so that everything it
    reads has been computed by then, and its name stands for the ReLU's output.
    """
    consumers = graph.consumers()
    by_name = {node.name: node for node in graph.nodes}

    def producer(value: str) -> GraphNode | None:
        alone = len(consumers.get(value, ())) == 1 and value != graph.output
        return by_name.get(value) if alone else None

    gone: set[str] = set()
    new: dict[str, GraphNode] = {}
    for node in graph.nodes:
        if isinstance(node.layer, layers.ReLU):
            found = match(node, producer)
            if found is not None:
                *leaving, arriving = found
                gone.update(each.name for each in leaving)
                new[node.name] = arriving
    renamed = {relu: node.name for relu, node in new.items()}

    def rename(node: GraphNode) -> GraphNode:
        inputs = tuple(renamed.get(value, value) for value in node.inputs)
        return GraphNode(node.name, node.layer, inputs, node.names)

    kept = [rename(new.get(node.name, node)) for node in graph.nodes if node.name not in gone]
    return graph.with_nodes(kept, renamed.get(graph.output, graph.output))
