"""LayerNorm, RMSNorm, GroupNorm or InstanceNorm, ReLU -> RowNormReLU."""

from minitrain import layers
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused

NORMS = (layers.LayerNorm, layers.RMSNorm, layers.GroupNorm, layers.InstanceNorm)


def row_norm_relu(node: GraphNode, view: View) -> Replacement | None:
    """Match a ReLU that alone reads such a norm."""
    norm = view.private_giver(node.inputs[0])
    if norm is None or not isinstance(norm.layer, NORMS) or not isinstance(node.layer, layers.ReLU):
        return None
    names = {local: norm.variable(local) for local in norm.layer.first_values()}
    return Replacement((norm, node), GraphNode(norm.name, fused.RowNormReLU(norm=norm.layer), norm.inputs, names))
