"""BatchNorm, ReLU -> BatchNormReLU."""

from minitrain import layers
from minitrain.compile.fusions._parts import arguments_of, norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def batch_norm_relu(node: GraphNode, view: View) -> Replacement | None:
    """Match a ReLU that alone reads a batch norm."""
    norm = view.private_giver(node.inputs[0])
    if norm is None or not isinstance(norm.layer, layers.BatchNorm) or not isinstance(node.layer, layers.ReLU):
        return None
    if len(norm.inputs) != 1:  # a mask is not what the fused layer takes
        return None
    layer = fused.BatchNormReLU(**arguments_of(norm.layer))
    return Replacement((norm, node), GraphNode(norm.name, layer, norm.inputs, norm_names(norm)))
