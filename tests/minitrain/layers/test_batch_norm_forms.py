"""The forms of BatchNorm in whole nets: fused, folded, frozen, saved; what their arguments mean; what they refuse."""

import json

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.graph.json import graph_from_json, graph_to_json
from minitrain.layers import BatchNorm
from minitrain.testing import BoundLayer

PLAIN = (
    {"affine": False}, {"bias": False}, {"period": 9}, {"debias": True}, {"momentum": None},
    {"track_running_stats": False}, {"track_running_stats": False, "affine": False},
)  # fmt: skip
FORMS = (
    *PLAIN, {"ghost_size": 5}, {"renorm": (3.0, 5.0)}, {"threshold": 2.0}, {"ghost_size": 4, "affine": False},
    {"renorm": (1.5, 0.5, 0, 2), "bias": False, "momentum": None},
)  # fmt: skip


def net(arguments, fuse=True, dtype="float64"):
    """A norm in each of the places that a fusion knows: before and after a convolution, a residual, a ReLU."""
    x = Input((3, 8, 8))
    h = layers.ReLU()(BatchNorm(**arguments)(layers.Conv2d(16, 3, padding=1, bias=False)(x)))
    inner = BatchNorm(**arguments)(layers.Conv2d(16, 3, padding=1)(h))
    h = layers.ReLU()(layers.Add()(inner, h))
    h = BatchNorm(**arguments)(layers.ReLU()(layers.Conv2d(5, 3)(h)))
    return Model(x, layers.Dense(4)(layers.Flatten()(h)), seed=3, dtype=dtype, fuse=fuse)


def data(samples=12):
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, 3, 8, 8)) * 2 + 1, rng.integers(0, 4, samples)


def train(model, steps=2):
    x, labels = data()
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.05))
    for step in range(steps):
        trainer.step(np.roll(x, step, axis=1), labels)
    return model.predict(x, batch_size=len(x))


@pytest.mark.parametrize("arguments", FORMS, ids=repr)
def test_fusing_changes_nothing(arguments):
    fused, plain = net(arguments), net(arguments, fuse=False)
    np.testing.assert_allclose(train(fused), train(plain), rtol=1e-9, atol=1e-9)
    for name, value in {**plain.params, **plain.state}.items():
        np.testing.assert_allclose({**fused.params, **fused.state}[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("arguments", FORMS, ids=repr)
def test_a_net_is_saved_and_read_again(arguments, tmp_path):
    model = net(arguments, dtype="float32")
    expected = train(model)
    model.save(tmp_path / "net.safetensors")
    again = Model.load(tmp_path / "net.safetensors")
    assert [node.layer for node in again.graph.nodes] == [node.layer for node in model.graph.nodes]
    np.testing.assert_array_equal(again.predict(data()[0], batch_size=12), expected)
    graph = json.loads(json.dumps(graph_to_json(model.graph)))
    assert graph_from_json(graph) == model.graph
    model.summary()


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("arguments", FORMS, ids=repr)
def test_a_frozen_net_leaves_its_norms_as_they_are(arguments, fuse):
    model = net(arguments, fuse)
    train(model)
    model.freeze("conv*", "bn*")
    before = {name: value.copy() for name, value in {**model.params, **model.state}.items()}
    x, labels = data()
    run = model.bind(12, training=True)
    expected = model.predict(x, batch_size=12)
    np.testing.assert_allclose(run.forward(x), expected, rtol=1e-9, atol=1e-9)
    Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.05)).step(x, labels)
    for name, value in {**model.params, **model.state}.items():
        assert name.startswith("dense") or np.array_equal(value, before[name]), name


@pytest.mark.parametrize("arguments", FORMS, ids=repr)
def test_input_gradients_are_those_of_inference(arguments):
    model = net(arguments)
    train(model)
    x, direction = data(4)[0], np.random.default_rng(1).standard_normal((4, 3, 8, 8))
    up, down = (model.predict(x + shift * direction, batch_size=4).sum() for shift in (1e-6, -1e-6))
    gradient = model.input_gradient(x, output_gradient=np.ones((4, 4)))
    assert (gradient * direction).sum() == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)


def test_variables():
    def names(**arguments):
        model = net(arguments)
        return {name.partition(".")[2] for name in (*model.params, *model.state) if name.startswith("bn1")}

    running = {"running_mean", "running_var"}
    assert names() == {"gamma", "beta"} | running
    assert names(affine=False) == running
    assert names(affine=False, bias=True) == running
    assert names(bias=False) == {"gamma"} | running
    assert names(track_running_stats=False, debias=True) == {"gamma", "beta"}
    assert names(debias=True) == {"gamma", "beta", "num_batches"} | running


def test_a_period_is_a_momentum():
    assert BatchNorm(period=9).momentum == 0.2
    assert BatchNorm(period=1).momentum == 1.0
    again = BatchNorm(momentum=0.2, period=9)  # as it is read from a file
    assert again == BatchNorm(period=9)


def test_without_bias_running_statistics_are_weighted_means_of_the_batches():
    bound = BoundLayer(BatchNorm(momentum=0.3, debias=True), [(8, 3, 4)])
    t = bound.tensors
    t.running_mean[...], t.running_var[...], t.num_batches[...] = 100.0, 100.0, 0
    weights, means, variances = [], [], []
    for seed in range(4):
        t.x[...] = np.random.default_rng(seed).standard_normal(t.x.shape) + seed
        bound.layer.forward(t)
        weights = [0.7 * each for each in weights] + [0.3]
        means.append(t.x.mean(axis=(0, 2)))
        variances.append(t.x.var(axis=(0, 2), ddof=1))
        np.testing.assert_allclose(t.running_mean, np.average(means, axis=0, weights=weights), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(
            t.running_var, np.average(variances, axis=0, weights=weights), rtol=1e-12, atol=1e-13
        )


def test_without_running_statistics_inference_needs_two_values():
    model = net({"track_running_stats": False})
    model.predict(data(1)[0])
    x = Input((3,))
    dense = Model(x, BatchNorm(track_running_stats=False)(x))
    with pytest.raises(ValueError, match="two or more values per channel"):
        dense.predict(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"period": 9, "momentum": 0.3}, ValueError, "momentum, period: expected one of the two"),
        ({"period": 9, "momentum": None}, ValueError, "momentum, period: expected one of the two"),
        ({"period": 0.5}, ValueError, "period: expected a finite number >= 1"),
        ({"period": "9"}, TypeError, "period: expected a number"),
        ({"momentum": None, "debias": True}, ValueError, "debias: expected a momentum above 0"),
        ({"momentum": 0.0, "debias": True}, ValueError, "debias: expected a momentum above 0"),
        ({"affine": 1}, TypeError, "affine"),
        ({"bias": None}, TypeError, "bias"),
        ({"track_running_stats": "no"}, TypeError, "track_running_stats"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, words):
    with pytest.raises(error, match=words):
        BatchNorm(**arguments)
