"""Patterns of layers that one layer does faster, one file each.

A fused layer is an ordinary layer. It keeps the names of the parameters and state it takes over, so that a checkpoint
does not know what was fused. To add a pattern, write its file and name it below, where its turn is: a pattern sees
what those before it have made.
"""

import numpy as np

from minitrain.compile.fusions.batch_norm_add_relu import batch_norm_add_relu
from minitrain.compile.fusions.batch_norm_relu import batch_norm_relu
from minitrain.compile.fusions.batch_norm_relu_conv2d import batch_norm_relu_conv2d
from minitrain.compile.fusions.conv2d_relu import conv2d_relu
from minitrain.compile.fusions.dropout_of_part import dropout_of_part
from minitrain.compile.fusions.frozen_batch_norm import frozen_batch_norm
from minitrain.compile.fusions.frozen_conv2d_batch_norm import frozen_conv2d_batch_norm
from minitrain.compile.fusions.inference_conv2d import inference_conv2d
from minitrain.compile.fusions.moments import moments
from minitrain.compile.fusions.row_norm_relu import row_norm_relu
from minitrain.compile.fusions.synchronized_batch_norm import synchronized_batch_norm
from minitrain.compile.rewrite import Pattern, rewrite
from minitrain.graph.graph import Graph

__all__ = [
    "ALWAYS", "FREEZING", "INFERENCE", "TRAINING", "freeze", "fuse", "fuse_for_inference", "fuse_for_training",
    "spread", "spreading",
]  # fmt: skip

ALWAYS: tuple[Pattern, ...] = (batch_norm_relu, batch_norm_add_relu, row_norm_relu)
FREEZING: tuple[Pattern, ...] = (frozen_batch_norm,)
TRAINING: tuple[Pattern, ...] = (frozen_conv2d_batch_norm, batch_norm_relu_conv2d, conv2d_relu, moments)
INFERENCE: tuple[Pattern, ...] = (inference_conv2d,)


def fuse(graph: Graph) -> Graph:
    """Return the graph with every pattern replaced that pays in training and inference."""
    return rewrite(graph, ALWAYS)


def freeze(graph: Graph) -> Graph:
    """Return the graph for training in which what `Graph.frozen` names stays as it is, after `fuse` or without."""
    if not graph.frozen:
        return graph
    rewritten = rewrite(graph, FREEZING)
    for node in rewritten.nodes:
        moved = [node.variable(name) for name in node.layer.statistics]
        if not graph.frozen.isdisjoint(moved):
            raise ValueError(
                f"{node.name}: expected a layer whose statistics can be frozen, got a {type(node.layer).__name__}, "
                "which has no frozen form; use freeze(..., statistics=False)"
            )
    return rewritten


def spreading(first_sample: int, synchronize: bool) -> tuple[Pattern, ...]:
    """Return the patterns that `spread` replaces."""
    return (dropout_of_part(first_sample), *((synchronized_batch_norm,) if synchronize else ()))


def spread(graph: Graph, first_sample: int, synchronize: bool) -> Graph:
    """Return the graph that `freeze` returned for the part of a batch that begins with this sample.

    With `synchronize`, batch norms are those of all parts together; else each part is normalized by itself.
    """
    return rewrite(graph, spreading(first_sample, synchronize))


def fuse_for_training(graph: Graph, dtype: np.dtype) -> Graph:
    """Return the graph that `fuse`, then `freeze` returned, with patterns replaced that pay in training alone.

    The batch is not known yet: it is done where it pays for an ordinary one.
    """
    return rewrite(graph, TRAINING, dtype)


def fuse_for_inference(graph: Graph) -> Graph:
    """Return the graph that `fuse` returned with patterns replaced that pay in inference alone."""
    return rewrite(graph, INFERENCE)
