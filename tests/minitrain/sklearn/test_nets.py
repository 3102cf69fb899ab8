"""Nets, optimizers and lengths from the parameters of an estimator."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from minitrain import layers, optimizers, schedules
from minitrain.sklearn.nets import input_shape_of, make_net, make_optimizer, number_of_epochs, outputs_of


def net(model="mlp", shape=(4,), outputs=3, hidden=(5,), activation="relu", norm="auto"):
    return make_net(model, shape, outputs, 0, hidden=hidden, activation=activation, norm=norm)


def kinds(model):
    return [type(node.layer).__name__ for node in model.graph.nodes]


@pytest.mark.parametrize("hidden", [5, [5], (np.int64(5),), np.array([5, 6])])
def test_hidden_layers(hidden):
    assert kinds(net(hidden=hidden)).count("Dense") == 1 + np.size(hidden)


def test_batch_norm_is_for_others_than_the_mlp():
    assert "BatchNorm" not in kinds(net())
    assert "BatchNorm" in kinds(net(norm="before"))
    assert "BatchNorm" in kinds(net("lenet", (1, 8, 8)))
    assert "BatchNorm" not in kinds(net("lenet", (1, 8, 8), norm=None))


@pytest.mark.parametrize(
    ("given", "shape"), [(None, (6,)), (6, (6,)), ((1, 2, 3), (1, 2, 3)), (np.array([2, 3]), (2, 3))]
)
def test_shape_of_a_sample(given, shape):
    assert input_shape_of(given, 6) == shape


@pytest.mark.parametrize("given", [5, (2, 2), (), (-2, -3)])
def test_a_shape_of_another_size(given):
    with pytest.raises(ValueError, match=r"^input_shape: expected"):
        input_shape_of(given, 6)


def test_the_length_of_a_training():
    assert number_of_epochs("auto", 10_000, 32, False) == 30
    assert number_of_epochs("auto", 32, 32, False) == 200
    assert number_of_epochs("auto", 120, 32, False) == 50
    assert number_of_epochs("auto", 32, 32, True) == 2000
    assert number_of_epochs("auto", 10_000, 32, True) == 200
    assert number_of_epochs(np.int8(7), 10, 32, True) == 7


def test_optimizers_by_name():
    adamw = make_optimizer("adamw", 0.02, 0.5, 100)
    assert isinstance(adamw, optimizers.AdamW)
    assert adamw.weight_decay == 0.5
    rates = [adamw.learning_rate_at(step) for step in range(100)]
    assert max(rates) == pytest.approx(0.02)
    assert rates[-1] < rates[0] < 0.02
    assert make_optimizer("sgd", 0.02, 0.5, None).learning_rate_at(7) == pytest.approx(0.002)
    assert make_optimizer("adam", 0.02, 0.5, 9).l2 == make_optimizer("rmsprop", 0.02, 0.5, 9).l2 == 0.5
    schedule = schedules.Cosine(0.1, 5)
    assert make_optimizer("sgd", schedule, 0, 100).learning_rate_at(2) == schedule(2)
    own = optimizers.SGD(0.3)
    assert make_optimizer(own, "ignored", "ignored", 9) is own


@pytest.mark.parametrize("count", [1, 31, 32, 33, 300])
def test_outputs_are_those_of_each_sample_alone(count):
    model = net(lambda shape, outputs, seed: lambda x: layers.Dense(outputs)(layers.Tanh()(layers.Dense(9)(x))))
    x = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    np.testing.assert_array_equal(outputs_of(model, x[:count]), outputs_of(model, x)[:count])
    np.testing.assert_allclose(outputs_of(model, x), model.predict(x), rtol=1e-5, atol=1e-6)
