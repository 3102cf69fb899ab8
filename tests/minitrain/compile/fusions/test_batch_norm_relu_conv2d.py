"""BatchNormReLU, Conv2d -> BatchNormReLUConv2d, in training."""

import numpy as np
from fusion_nets import graph_of, kinds, two_convolutions

from minitrain import Input, layers
from minitrain.compile.fusions import fuse, fuse_for_training


def test_batch_norm_and_relu_go_into_the_next_convolution_for_training():
    graph = fuse_for_training(fuse(two_convolutions().graph), np.dtype("float32"))
    assert kinds(graph) == ["Conv2d", "BatchNormReLUConv2d", "Flatten", "Dense"]
    both = graph.nodes[1]
    assert (both.name, both.inputs, both.layer.norm.momentum) == ("conv2", ("conv1",), 0.3)
    assert [both.variable(name) for name in ("gamma", "running_var", "weight", "bias")] == [
        "bn1.gamma", "bn1.running_var", "conv2.weight", "conv2.bias",
    ]  # fmt: skip


def test_a_convolution_that_does_not_normalize_reads_its_batch_norm():
    for graph in (two_convolutions(kernel_size=1).graph, two_convolutions(kernel_size=5).graph):
        assert "BatchNormReLUConv2d" not in kinds(fuse_for_training(fuse(graph), np.dtype("float32")))
    graph = fuse(two_convolutions().graph)
    assert kinds(fuse_for_training(graph, np.dtype("float64"))) == kinds(graph)


def test_a_batch_norm_that_others_read_stays_before_its_convolution():
    x = Input((32, 16, 16))
    h = layers.ReLU()(layers.BatchNorm()(x))
    graph = fuse(graph_of([x], layers.Add()(layers.Conv2d(32, 3, padding=1)(h), h)))
    assert kinds(fuse_for_training(graph, np.dtype("float32"))) == ["BatchNormReLU", "Conv2d", "Add"]
