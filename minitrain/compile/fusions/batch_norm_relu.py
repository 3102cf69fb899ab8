"""BatchNorm, ReLU -> BatchNormReLU."""

from minitrain import layers
from minitrain.compile.fusions._parts import norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def batch_norm_relu(node: GraphNode, view: View) -> Replacement | None:
    """Match a ReLU that alone reads a batch norm."""
    norm = view.private_giver(node.inputs[0])
    if norm is None or not isinstance(norm.layer, layers.BatchNorm) or not isinstance(node.layer, layers.ReLU):
        return None
    layer = fused.BatchNormReLU(momentum=norm.layer.momentum, eps=norm.layer.eps)
    return Replacement((norm, node), GraphNode(norm.name, layer, norm.inputs, norm_names(norm)))
