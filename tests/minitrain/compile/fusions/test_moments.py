"""Convolutions that find the statistics of the batch norms after them, in training."""

import numpy as np
import pytest
from fusion_nets import graph_of, kinds, two_convolutions, wide_residual_net

from minitrain import Input, Trainer, layers, losses, models, optimizers
from minitrain.compile.fusions import fuse, fuse_for_training


def test_convolutions_find_the_statistics_of_the_batch_norms_after_them():
    graph = fuse_for_training(fuse(wide_residual_net().graph), np.dtype("float32"))
    assert [(type(node.layer).__name__, node.inputs) for node in graph.nodes[:-2]] == [
        ("Conv2dMoments", ("input",)),
        ("BatchNormReLUConv2d", ("conv1", "conv1.moments")),
        ("BatchNormOfMoments", ("conv2", "input", "conv2.moments")),
        ("Conv2dMoments", ("bn2",)),
        ("BatchNormOfMoments", ("conv3", "conv3.moments")),
    ]
    assert [node.variable("gamma") for node in graph.nodes[1:3]] == ["bn1.gamma", "bn2.gamma"]
    assert "moments" not in str(list(wide_residual_net().state))


def test_convolutions_with_their_relu_find_the_statistics_of_what_comes_out():
    graph = fuse_for_training(fuse(models.article_b().graph), np.dtype("float32"))
    (second,) = (node for node in graph.nodes if node.name == "relu2")
    assert second.layer.gives_moments
    assert [node.inputs for node in graph.nodes if node.name == "bn2"] == [("relu2", "relu2.moments")]


def test_a_convolution_that_no_batch_norm_reads_finds_nothing():
    x = Input((16, 16, 16))
    graph = graph_of([x], layers.ReLU()(layers.Conv2d(16, 3, padding=1)(x)))
    assert "Conv2dMoments" not in kinds(fuse_for_training(fuse(graph), np.dtype("float32")))


@pytest.mark.parametrize("batch", [3, 6, 40])
@pytest.mark.parametrize("net", [two_convolutions, wide_residual_net])
def test_a_step_through_normalizing_convolutions_is_the_same_step(net, batch):
    rng = np.random.default_rng(0)
    shape = net().input_shapes["input"]
    x, y = rng.standard_normal((batch, *shape), dtype="float32"), np.arange(batch) % 3
    results = []
    for fused in (True, False):
        model = net(fused)
        trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
        results.append((trainer.step(x, y), {**model.params, **model.state}))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for name, value in results[0][1].items():
        np.testing.assert_allclose(value, results[1][1][name], rtol=1e-5, atol=1e-6, err_msg=name)
