"""Conv2d, FrozenBatchNorm -> FrozenConv2dBatchNorm, in training, where every parameter of both is frozen."""

from minitrain import layers
from minitrain.compile.fusions._parts import conv2d_names, norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def frozen_conv2d_batch_norm(node: GraphNode, view: View) -> Replacement | None:
    """Match a frozen batch norm that alone reads a convolution (not one that takes that as its residual)."""
    if not isinstance(node.layer, fused.FrozenBatchNorm):
        return None
    conv = view.private_giver(node.inputs[0])
    if conv is None or not isinstance(conv.layer, layers.Conv2d):
        return None
    names = conv2d_names(conv) | norm_names(node)
    learned = [name for local, name in names.items() if local not in node.layer.norm.statistics]
    if not view.graph.frozen.issuperset(learned):
        return None
    layer = fused.FrozenConv2dBatchNorm(conv.layer, node.layer.norm)
    by = GraphNode(node.name, layer, (*conv.inputs, *node.inputs[1:]), names)
    return Replacement((conv, node), by)
