"""Conv2d, ReLU -> Conv2dReLU, in training (`inference_conv2d` has more to offer after it)."""

from minitrain import layers
from minitrain.compile.fusions._parts import conv2d_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused


def conv2d_relu(node: GraphNode, view: View) -> Replacement | None:
    """Match a ReLU that alone reads a convolution."""
    conv = view.private_giver(node.inputs[0])
    if conv is None or not isinstance(conv.layer, layers.Conv2d) or not isinstance(node.layer, layers.ReLU):
        return None
    return Replacement(
        (conv, node), GraphNode(node.name, fused.Conv2dReLU(conv.layer), conv.inputs, conv2d_names(conv))
    )
