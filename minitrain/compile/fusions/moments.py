"""Convolutions whose kernels can do it find the statistics of the batch norms after them, in training."""

from dataclasses import replace

import numpy as np

from minitrain import layers
from minitrain.compile.fusions._parts import NORMS
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode, part_of
from minitrain.kernels.conv2d import Product, normalizes
from minitrain.layer import Layer
from minitrain.layers import fused

TAKERS = (*NORMS, fused.BatchNormReLUConv2d)
GIVERS = (fused.BatchNormReLUConv2d, fused.Conv2dReLU)  # beside Conv2d itself


def moments(node: GraphNode, view: View) -> Replacement | None:
    """Match either end: a layer that normalizes what a convolution gives, and that convolution; some nodes are both."""
    if view.dtype != np.float32:
        return None
    layer, inputs = node.layer, node.inputs
    giver = view.giver(inputs[0])
    if _takes(node) and giver is not None and _gives(giver, view):
        layer, inputs = _taking(layer), (*inputs, part_of(giver.name, "moments"))
    if _gives(node, view):
        layer = _giving(layer)
    return None if layer is node.layer else Replacement((node,), GraphNode(node.name, layer, inputs, node.names))


def _takes(node: GraphNode) -> bool:
    """Whether a node normalizes by mean and variance of its first input, whoever has found them."""
    if not isinstance(node.layer, TAKERS):
        return False
    norm = node.layer.norm if isinstance(node.layer, fused.BatchNormReLUConv2d) else node.layer
    return norm.is_plain and len(node.inputs) == 1 + norm.adds_residual


def _gives(node: GraphNode, view: View) -> bool:
    """Whether a node convolves with kernels that find moments, for somebody who wants them."""
    conv = node.layer.conv if isinstance(node.layer, GIVERS) else node.layer
    if not isinstance(conv, layers.Conv2d):
        return False
    wanted = any(_takes(each) and each.inputs[0] == node.name for each in view.readers(node.name))
    return wanted and normalizes(conv.geometry(view.input_shape(node)), Product.FORWARD)


def _taking(layer: Layer) -> Layer:
    if isinstance(layer, fused.BatchNormReLUConv2d):
        return replace(layer, takes_moments=True)
    return fused.BatchNormOfMoments(layer)  # type: ignore[arg-type]


def _giving(layer: Layer) -> Layer:
    return replace(layer, gives_moments=True) if isinstance(layer, GIVERS) else fused.Conv2dMoments(layer)  # type: ignore[arg-type]
