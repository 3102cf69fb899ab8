"""A batch norm whose statistics are frozen -> FrozenBatchNorm, in training, whether or not anything else is fused."""

from minitrain.compile.fusions._parts import NORMS
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def frozen_batch_norm(node: GraphNode, view: View) -> Replacement | None:
    """Match a batch norm (with what has been fused to it) whose running statistics are frozen."""
    if not isinstance(node.layer, NORMS) or node.variable("running_mean") not in view.graph.frozen:
        return None
    by = GraphNode(node.name, fused.FrozenBatchNorm(node.layer), node.inputs, node.names)  # type: ignore[arg-type]
    return Replacement((node,), by)
