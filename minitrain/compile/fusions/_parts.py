"""What the patterns share: kinds of layers, and the names of the variables that a fused layer takes over."""

from dataclasses import fields
from typing import Any

from minitrain import layers
from minitrain.graph.graph import GraphNode
from minitrain.layer import Spec
from minitrain.layers import fused
from minitrain.layers._normalization import Normalization

NORMS = (layers.BatchNorm, fused.BatchNormReLU, fused.BatchNormAddReLU)


def arguments_of(norm: Normalization) -> dict[str, Any]:
    """Return the arguments that a batch norm was made with, but for its name."""
    return {field.name: getattr(norm, field.name) for field in fields(norm) if field.name != "name"}


def folds(node: GraphNode) -> bool:
    """Return whether a node is a batch norm that is an affine map of each channel in inference."""
    return isinstance(node.layer, NORMS) and node.layer.folds and len(node.inputs) == 1 + node.layer.adds_residual


def norm_names(norm: GraphNode) -> dict[str, str]:
    """Map a batch norm's own names of parameters and state to the model's."""
    declared = norm.layer.declare(*(Spec((2, 2)) for _ in norm.inputs))
    return {local: norm.variable(local) for local in (*declared.params, *declared.state)}


def conv2d_names(conv: GraphNode) -> dict[str, str]:
    """Map a convolution's own names of parameters to the model's."""
    assert isinstance(conv.layer, layers.Conv2d)
    return {local: conv.variable(local) for local in (("weight", "bias") if conv.layer.bias else ("weight",))}
