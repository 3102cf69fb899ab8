"""Graph to graph: patterns of layers that one layer does faster.

A fused layer is an ordinary layer. It keeps the names of the parameters and state it takes over, so that a checkpoint
does not know what was fused.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from minitrain import layers
from minitrain.graph.graph import Graph, GraphNode, part_of
from minitrain.kernels.conv2d import Product, normalizes
from minitrain.layer import Layer
from minitrain.layers import fused
from minitrain.layers.fused.inference_conv2d import LAST

__all__ = ["fuse", "fuse_for_inference", "fuse_for_training"]

ORDINARY_BATCH = 32
NORMS = (layers.BatchNorm, fused.BatchNormReLU, fused.BatchNormAddReLU)


def fuse(graph: Graph) -> Graph:
    """Return the graph with every pattern replaced that pays."""
    for rewrite in (_fuse_batch_norm_relu, _fuse_batch_norm_add_relu):
        graph = rewrite(graph)
    return graph


def fuse_for_training(graph: Graph, dtype: np.dtype) -> Graph:
    """Return the graph that `fuse` returned with patterns replaced that pay in training alone.

    The batch is not known yet: it is done where it pays for an ordinary one.
    """
    if dtype != np.float32:
        return _fuse_conv2d_relu(graph)
    return _gather_moments(_fuse_conv2d_relu(_fuse_batch_norm_relu_conv2d(graph)))


def _fuse_conv2d_relu(graph: Graph) -> Graph:
    """Conv2d, ReLU -> Conv2dReLU."""
    consumers, by_name = graph.consumers(), {node.name: node for node in graph.nodes}
    new: dict[str, GraphNode] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        conv = by_name.get(node.inputs[0])
        if conv is None or not isinstance(conv.layer, layers.Conv2d) or not isinstance(node.layer, layers.ReLU):
            continue
        if len(consumers[conv.name]) == 1 and conv.name != graph.output:
            names = {local: conv.variable(local) for local in ("weight", "bias")}
            new[node.name] = GraphNode(node.name, fused.Conv2dReLU(conv.layer), conv.inputs, names)
            gone.add(conv.name)
    kept = [new.get(node.name, node) for node in graph.nodes if node.name not in gone]
    return graph.with_nodes(kept, graph.output)


def _fuse_batch_norm_relu_conv2d(graph: Graph) -> Graph:
    """BatchNormReLU, Conv2d -> BatchNormReLUConv2d, where the convolution's kernels normalize."""
    consumers, shapes = graph.consumers(), graph.shapes(ORDINARY_BATCH)
    norms = {node.name: node for node in graph.nodes if isinstance(node.layer, fused.BatchNormReLU)}
    new: dict[str, GraphNode] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        norm = norms.get(node.inputs[0])
        alone = norm is not None and len(consumers[norm.name]) == 1 and norm.name != graph.output
        if norm is None or not alone or not isinstance(node.layer, layers.Conv2d):
            continue
        geometry = node.layer.geometry(shapes[norm.inputs[0]])
        if normalizes(geometry, Product.FORWARD, Product.WEIGHT_GRADIENT):
            layer = fused.BatchNormReLUConv2d(norm.layer, node.layer)  # type: ignore[arg-type]
            declared = node.layer.declare(shapes[norm.inputs[0]])
            names = _norm_names(norm) | {local: node.variable(local) for local in declared.params}
            new[node.name] = GraphNode(node.name, layer, norm.inputs, names)
            gone.add(norm.name)
    kept = [new.get(node.name, node) for node in graph.nodes if node.name not in gone]
    return graph.with_nodes(kept, graph.output)


def _gather_moments(graph: Graph) -> Graph:
    """Let convolutions whose kernels can do it find the statistics of the batch norms after them."""
    shapes, takers = graph.shapes(ORDINARY_BATCH), (*NORMS, fused.BatchNormReLUConv2d)
    readers = {node.inputs[0] for node in graph.nodes if isinstance(node.layer, takers)}
    givers = fused.BatchNormReLUConv2d, fused.Conv2dReLU

    def gathers(node: GraphNode) -> bool:
        conv = node.layer.conv if isinstance(node.layer, givers) else node.layer
        if not isinstance(conv, layers.Conv2d):
            return False
        return normalizes(conv.geometry(shapes[node.inputs[0]]), Product.FORWARD)

    gives = {node.name for node in graph.nodes if node.name in readers and gathers(node)}

    def rewritten(node: GraphNode) -> GraphNode:
        layer, inputs = node.layer, node.inputs
        if inputs[0] in gives and isinstance(layer, takers):
            inputs = (*inputs, part_of(inputs[0], "moments"))
            if isinstance(layer, fused.BatchNormReLUConv2d):
                layer = replace(layer, takes_moments=True)
            else:
                layer = fused.BatchNormOfMoments(layer)  # type: ignore[arg-type]
        if node.name in gives and isinstance(layer, givers):
            layer = replace(layer, gives_moments=True)
        elif node.name in gives:
            layer = fused.Conv2dMoments(layer)  # type: ignore[arg-type]
        return GraphNode(node.name, layer, inputs, node.names)

    return graph.with_nodes([rewritten(node) for node in graph.nodes], graph.output)


def fuse_for_inference(graph: Graph) -> Graph:
    """Conv2d and what follows it -> InferenceConv2d, on a graph that `fuse` returned."""
    consumers = graph.consumers()
    new: dict[str, GraphNode] = {}
    gone: set[str] = set()

    def follower(node: GraphNode) -> GraphNode | None:
        readers = consumers.get(node.name, ())
        return readers[0] if len(readers) == 1 and node.name != graph.output else None

    for node in graph.nodes:
        if isinstance(node.layer, layers.Conv2d):
            chain, fused_node = _take_in_what_follows(node, follower)
            if len(chain) > 1:
                gone.update(each.name for each in chain)
                new[chain[-1].name] = fused_node
    kept = [new.get(node.name, node) for node in graph.nodes if node.name in new or node.name not in gone]
    return graph.with_nodes(kept, graph.output)


def _take_in_what_follows(
    conv: GraphNode, follower: Callable[[GraphNode], GraphNode | None]
) -> tuple[list[GraphNode], GraphNode]:
    """Return the nodes that one InferenceConv2d stands for, and its node, under the name of the last of them."""
    chain = [conv]
    layer = fused.InferenceConv2d(conv.layer)  # type: ignore[arg-type]
    names = {local: conv.variable(local) for local in ("weight", "bias")}
    inputs = conv.inputs
    after = follower(conv)
    if after is not None and isinstance(after.layer, NORMS) and after.inputs[0] == conv.name:
        chain.append(after)
        layer, inputs = replace(layer, norm=after.layer), (*inputs, *after.inputs[1:])
        names |= _norm_names(after)
        after = follower(after)
    if after is not None and isinstance(after.layer, layers.ReLU):
        chain.append(after)
        layer = replace(layer, relu=True)
        after = follower(after)
    if after is not None and isinstance(after.layer, layers.BatchNorm):
        chain.append(after)
        layer = replace(layer, last_norm=after.layer)
        names |= {LAST + local: name for local, name in _norm_names(after).items()}
    return chain, GraphNode(chain[-1].name, layer, inputs, names)


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
