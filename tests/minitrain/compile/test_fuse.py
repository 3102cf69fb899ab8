"""Fusion: what is replaced, what is left alone, what stays the same."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, models, optimizers
from minitrain.compile.fuse import fuse, fuse_for_inference, fuse_for_training
from minitrain.graph import trace


def kinds(graph):
    return [type(node.layer).__name__ for node in graph.nodes]


def test_batch_norm_and_relu_become_one():
    x = Input((3, 4, 4))
    h = layers.ReLU()(layers.BatchNorm(momentum=0.3, eps=1e-3)(layers.Conv2d(5, 3)(x)))
    graph = fuse(trace([x], layers.GlobalAvgPool()(h)))
    assert kinds(graph) == ["Conv2d", "BatchNormReLU", "GlobalAvgPool"]
    fused = graph.nodes[1]
    assert (fused.layer.momentum, fused.layer.eps) == (0.3, 1e-3)
    assert fused.variable("gamma") == "bn1.gamma"
    assert graph.nodes[2].inputs == (fused.name,)


@pytest.mark.parametrize("norm_first", [True, False])
def test_residual_block_becomes_one(norm_first):
    x = Input((3, 4, 4))
    skip = layers.ReLU()(x)
    normed = layers.BatchNorm()(layers.Conv2d(3, 3, padding=1)(skip))
    h = layers.Add()(normed, skip) if norm_first else layers.Add()(skip, normed)
    graph = fuse(trace([x], layers.ReLU()(h)))
    assert kinds(graph) == ["ReLU", "Conv2d", "BatchNormAddReLU"]
    assert graph.nodes[-1].inputs == ("conv1", "relu1")
    assert graph.output == graph.nodes[-1].name


def test_a_value_that_others_read_stays():
    x = Input((3, 4, 4))
    normed = layers.BatchNorm()(x)
    graph = fuse(trace([x], layers.Add()(layers.ReLU()(normed), normed)))
    assert kinds(graph) == ["BatchNorm", "ReLU", "Add"]


def test_the_models_own_output_stays():
    x = Input((3,))
    normed = layers.BatchNorm()(x)
    assert kinds(fuse(trace([x], normed))) == ["BatchNorm"]


def test_twice_the_same_value_in_an_add_stays():
    x = Input((3,))
    normed = layers.BatchNorm()(x)
    assert kinds(fuse(trace([x], layers.ReLU()(layers.Add()(normed, normed))))) == ["BatchNorm", "Add", "ReLU"]


def two_convolutions(fuse=True, dtype="float32", kernel_size=3):
    x = Input((3, 16, 16))
    h = layers.ReLU()(layers.BatchNorm(momentum=0.3)(layers.Conv2d(32, 3, padding=1, bias=False)(x)))
    h = layers.Conv2d(32, kernel_size, padding=1)(h)
    return Model(x, layers.Dense(3)(layers.Flatten()(h)), fuse=fuse, dtype=dtype)


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
    graph = fuse(trace([x], layers.Add()(layers.Conv2d(32, 3, padding=1)(h), h)))
    assert kinds(fuse_for_training(graph, np.dtype("float32"))) == ["BatchNormReLU", "Conv2d", "Add"]


def wide_residual_net(fuse=True):
    x = Input((32, 16, 16))
    inner = layers.ReLU()(layers.BatchNorm(momentum=None)(layers.Conv2d(32, 3, padding=1, bias=False)(x)))
    inner = layers.BatchNorm(eps=1e-3)(layers.Conv2d(32, 3, padding=1)(inner))
    h = layers.ReLU()(layers.Add()(inner, x))
    h = layers.BatchNorm()(layers.Conv2d(40, 3)(h))
    return Model(x, layers.Dense(3)(layers.Flatten()(h)), seed=2, fuse=fuse)


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
    graph = trace([x], layers.ReLU()(layers.Conv2d(16, 3, padding=1)(x)))
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


def test_convolutions_take_in_their_batch_norms_for_inference():
    graph = fuse_for_inference(residual_net(True, "float32").graph)  # unfused: only plain batch norms follow
    assert kinds(graph).count("InferenceConv2d") == 3
    graph = fuse_for_inference(fuse(residual_net(True, "float32").graph))
    assert kinds(graph) == ["InferenceConv2d"] * 3 + ["Flatten", "Dense"]
    assert graph.nodes[2].inputs == ("bn2", "bn1")
    assert graph.nodes[2].variable("weight") == "conv3.weight"
    assert graph.nodes[2].variable("running_var") == "bn3.running_var"


def test_a_convolution_that_others_read_keeps_its_batch_norm():
    x = Input((3, 4, 4))
    h = layers.Conv2d(3, 3, padding=1)(x)
    graph = fuse_for_inference(fuse(trace([x], layers.Add()(layers.BatchNorm()(h), h))))
    assert kinds(graph) == ["Conv2d", "BatchNorm", "Add"]


def test_folded_weights_follow_their_sources():
    folded, plain = residual_net(True, "float64"), residual_net(False, "float64")
    x = np.random.default_rng(0).standard_normal((3, 3, 6, 6))
    folded.predict(x)
    for model in (folded, plain):
        rng = np.random.default_rng(1)
        for name, value in {**model.params, **model.state}.items():
            value[...] = rng.uniform(0.5, 1.5, value.shape) if name.endswith("var") else rng.normal(size=value.shape)
    np.testing.assert_allclose(folded.predict(x), plain.predict(x), rtol=1e-11, atol=1e-11)


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
        graph = trace([x], output)
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


def plain_net(dtype):
    x = Input((1, 8, 8))
    h = layers.ReLU()(layers.Conv2d(4, 3, padding=1)(x))
    h = layers.ReLU()(layers.Conv2d(8, 3, stride=2, bias=False)(h))
    h = layers.LeakyReLU(0.1)(layers.Dense(9)(layers.Flatten()(h)))
    h = layers.Tanh()(layers.Dense(8, bias=False)(layers.Sigmoid()(layers.Dense(7)(h))))
    return Model(x, layers.Dense(3)(h), dtype=dtype)


def residual_net(fuse, dtype):
    x = Input((3, 6, 6))
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(x)))
    skip = h
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(h)))
    h = layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(h))
    h = layers.ReLU()(layers.Add()(h, skip))
    return Model(x, layers.Dense(5)(layers.Flatten()(h)), seed=3, dtype=dtype, fuse=fuse)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_fused_equals_unfused(dtype, tolerance):
    x = np.random.default_rng(0).standard_normal((7, 3, 6, 6))
    results = []
    for fused in (True, False):
        model = residual_net(fused, dtype)
        plan = model.training_plan(7)
        plan.load(x)
        plan.forward()
        plan.output_gradient[...] = np.sin(np.arange(35)).reshape(7, 5)
        plan.backward()
        results.append((plan.output.copy(), dict(model.gradients), dict(model.state), model.predict(x)))
    for one, other in zip(*results, strict=True):
        for a, b in zip(*(list(each.values()) if isinstance(each, dict) else [each] for each in (one, other)),
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))
    assert list(results[0][1]) == list(results[1][1])
