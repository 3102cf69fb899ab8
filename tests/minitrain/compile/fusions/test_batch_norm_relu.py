"""BatchNorm, ReLU -> BatchNormReLU: what is replaced, what is left alone."""

from fusion_nets import graph_of, kinds

from minitrain import Input, layers
from minitrain.compile.fusions import fuse


def test_batch_norm_and_relu_become_one():
    x = Input((3, 4, 4))
    h = layers.ReLU()(layers.BatchNorm(momentum=0.3, eps=1e-3)(layers.Conv2d(5, 3)(x)))
    graph = fuse(graph_of([x], layers.GlobalAvgPool()(h)))
    assert kinds(graph) == ["Conv2d", "BatchNormReLU", "GlobalAvgPool"]
    fused = graph.nodes[1]
    assert (fused.layer.momentum, fused.layer.eps) == (0.3, 1e-3)
    assert fused.variable("gamma") == "bn1.gamma"
    assert graph.nodes[2].inputs == (fused.name,)


def test_a_value_that_others_read_stays():
    x = Input((3, 4, 4))
    normed = layers.BatchNorm()(x)
    graph = fuse(graph_of([x], layers.Add()(layers.ReLU()(normed), normed)))
    assert kinds(graph) == ["BatchNorm", "ReLU", "Add"]


def test_the_models_own_output_stays():
    x = Input((3,))
    normed = layers.BatchNorm()(x)
    assert kinds(fuse(graph_of([x], normed))) == ["BatchNorm"]
