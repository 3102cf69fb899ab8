"""What the patterns share: kinds of layers, and the names of the variables that a fused layer takes over."""

from minitrain import layers
from minitrain.graph.graph import GraphNode
from minitrain.layer import Spec
from minitrain.layers import fused

NORMS = (layers.BatchNorm, fused.BatchNormReLU, fused.BatchNormAddReLU)


def norm_names(norm: GraphNode) -> dict[str, str]:
    """Map a batch norm's own names of parameters and state to the model's."""
    declared = norm.layer.declare(*(Spec((2, 2)) for _ in norm.inputs))
    return {local: norm.variable(local) for local in (*declared.params, *declared.state)}


def conv2d_names(conv: GraphNode) -> dict[str, str]:
    """Map a convolution's own names of parameters to the model's."""
    assert isinstance(conv.layer, layers.Conv2d)
    return {local: conv.variable(local) for local in (("weight", "bias") if conv.layer.bias else ("weight",))}
