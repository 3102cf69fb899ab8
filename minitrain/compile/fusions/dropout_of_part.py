"""Dropout -> DropoutOfPart, in the graph that runs one of several parts of a batch."""

from minitrain import layers
from minitrain.compile.rewrite import Pattern, Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def dropout_of_part(first_sample: int) -> Pattern:
    """Return the pattern for the part that begins with this sample of the batch."""

    def match(node: GraphNode, view: View) -> Replacement | None:
        if not isinstance(node.layer, layers.Dropout):
            return None
        layer = fused.DropoutOfPart(node.layer.p, first_sample)
        return Replacement((node,), GraphNode(node.name, layer, node.inputs, node.names))

    return match
