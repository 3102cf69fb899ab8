"""Conv2d and what follows it -> InferenceConv2d, in inference.

What follows is a batch norm (with the residual and ReLU it has been fused with), a ReLU and one more batch norm, each
of them or not.
"""

from dataclasses import replace

from minitrain import layers
from minitrain.compile.fusions._parts import conv2d_names, folds, norm_names
from minitrain.compile.rewrite import Replacement, View
from minitrain.graph.graph import GraphNode
from minitrain.layers import fused
from minitrain.layers.fused.inference_conv2d import LAST


def inference_conv2d(node: GraphNode, view: View) -> Replacement | None:
    """Match a convolution that is alone read by one of these; take in as many of them as there are."""
    if not isinstance(node.layer, layers.Conv2d):
        return None
    chain, layer, inputs, names = [node], fused.InferenceConv2d(node.layer), node.inputs, conv2d_names(node)
    after = view.only_reader(node)
    if after is not None and folds(after) and after.inputs[0] == node.name:
        chain.append(after)
        layer, inputs = replace(layer, norm=after.layer), (*inputs, *after.inputs[1:])  # type: ignore[arg-type]
        names |= norm_names(after)
        after = view.only_reader(after)
    if after is not None and isinstance(after.layer, layers.ReLU):
        chain.append(after)
        layer = replace(layer, relu=True)
        after = view.only_reader(after)
    if after is not None and isinstance(after.layer, layers.BatchNorm) and folds(after):
        chain.append(after)
        layer = replace(layer, last_norm=after.layer)
        names |= {LAST + local: name for local, name in norm_names(after).items()}
    if len(chain) == 1:
        return None
    return Replacement(tuple(chain), GraphNode(chain[-1].name, layer, inputs, names))
