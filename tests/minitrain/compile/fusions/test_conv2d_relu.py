"""Conv2d, ReLU -> Conv2dReLU, in training."""

import numpy as np
import pytest
from fusion_nets import graph_of, kinds, plain_net

from minitrain import Input, Model, Trainer, layers, losses, models, optimizers
from minitrain.compile.fusions import fuse, fuse_for_inference, fuse_for_training

FLOATS = [np.dtype("float32"), np.dtype("float64")]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_convolutions_take_in_their_relus_for_training(dtype):
    graph = fuse(models.article_b((1, 8, 8), 3).graph)
    assert kinds(fuse_for_training(graph, dtype)) == [
        "Conv2dReLU", "BatchNorm", "MaxPool2d", "Conv2dReLU", "BatchNorm", "MaxPool2d", "Flatten", "Dense",
        "ReLU", "BatchNorm", "Dense",
    ]  # fmt: skip
    assert kinds(fuse_for_inference(graph))[:3] == ["InferenceConv2d", "MaxPool2d", "InferenceConv2d"]


def test_a_convolution_that_others_read_keeps_its_relu():
    x = Input((3, 4, 4))
    conv = layers.Conv2d(3, 3, padding=1)(x)
    for output in (layers.Add()(layers.ReLU()(conv), conv), layers.LeakyReLU(0.5)(conv), conv):
        graph = graph_of([x], output)
        assert kinds(fuse_for_training(fuse(graph), np.dtype("float32"))) == kinds(graph)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_step_with_relus_taken_in_is_the_same_step(dtype):
    rng = np.random.default_rng(0)
    y, tolerance = np.arange(6) % 3, {4: 2e-5, 8: 1e-11}[dtype.itemsize]
    for make in (plain_net, lambda **kind: models.article_b((1, 8, 8), 3, **kind)):
        trained, x = [], rng.standard_normal((6, 1, 8, 8))
        for fused in (True, False):
            model = Model.from_graph(make(dtype=dtype).graph, seed=0, dtype=dtype, fuse=fused)
            trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
            _, gradients = trainer.gradients(x, y)
            trained.append((trainer.step(x, y), gradients, {**model.params, **model.state}))
        assert trained[0][0] == pytest.approx(trained[1][0], rel=tolerance)
        for ours, theirs in zip(trained[0][1:], trained[1][1:], strict=True):
            assert list(ours) == list(theirs)
            for name, value in ours.items():
                np.testing.assert_allclose(value, theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)
