"""A batch norm -> SynchronizedBatchNorm, in the graph that runs one of several parts of a batch."""

from minitrain import layers
from minitrain.compile.fusions._parts import NORMS
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def synchronized_batch_norm(node: GraphNode, view: View) -> Replacement | None:
    """Match a batch norm (with what has been fused to it) that is normalized by statistics of the whole batch.

    One of ghosts stays: no part ends within a ghost. One whose statistics are frozen is no batch norm any more.
    """
    if isinstance(node.layer, layers.ConditionalBatchNorm):
        raise ValueError(
            f"{node.name}: sync_batch_norm=True has no form of ConditionalBatchNorm; pass sync_batch_norm=False, which "
            "normalizes the samples of each rank by themselves, or freeze its statistics"
        )
    if not isinstance(node.layer, NORMS) or node.layer.ghost_size is not None:
        return None
    by = GraphNode(node.name, fused.SynchronizedBatchNorm(node.layer), node.inputs, node.names)
    return Replacement((node,), by)
