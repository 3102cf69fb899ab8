"""BatchNorm, Add of its output and one more value, ReLU -> BatchNormAddReLU."""

from minitrain import layers
from minitrain.compile.fusions._parts import arguments_of, norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def batch_norm_add_relu(node: GraphNode, view: View) -> Replacement | None:
    """Match a ReLU that alone reads a sum of two, of which one is a batch norm that the sum alone reads."""
    if not isinstance(node.layer, layers.ReLU):
        return None
    add = view.private_giver(node.inputs[0])
    if add is None or not isinstance(add.layer, layers.Add) or len(add.inputs) != 2:
        return None
    for value, residual in (add.inputs, add.inputs[::-1]):
        norm = view.private_giver(value)
        if norm is not None and isinstance(norm.layer, layers.BatchNorm) and len(norm.inputs) == 1:
            layer = fused.BatchNormAddReLU(**arguments_of(norm.layer))
            by = GraphNode(norm.name, layer, (*norm.inputs, residual), norm_names(norm))
            return Replacement((norm, add, node), by)
    return None
