"""BatchNormReLU, Conv2d -> BatchNormReLUConv2d, in training and where the convolution's kernels normalize."""

import numpy as np

from minitrain import layers
from minitrain.compile.fusions._parts import conv2d_names, norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.kernels.conv2d import Product, normalizes
from minitrain.layers import fused


def batch_norm_relu_conv2d(node: GraphNode, view: View) -> Replacement | None:
    """Match a float32 convolution that alone reads a batch norm with ReLU, and pays to normalize."""
    if view.dtype != np.float32 or not isinstance(node.layer, layers.Conv2d):
        return None
    norm = view.private_giver(node.inputs[0])
    if norm is None or not isinstance(norm.layer, fused.BatchNormReLU) or not norm.layer.is_plain:
        return None
    geometry = node.layer.geometry(view.input_shape(node))
    if not normalizes(geometry, Product.FORWARD, Product.WEIGHT_GRADIENT):
        return None
    layer = fused.BatchNormReLUConv2d(norm.layer, node.layer)
    return Replacement((norm, node), GraphNode(node.name, layer, norm.inputs, norm_names(norm) | conv2d_names(node)))
