"""Probabilities and classes: the loss or the last layer says which function gives them."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.objective.probabilities import classes, probabilities

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 4)).astype("float32")
CE, BCE, MSE = losses.SoftmaxCrossEntropy(), losses.BinaryCrossEntropy(), losses.MeanSquaredError()
BCE_OF_LOGITS = losses.BinaryCrossEntropy(from_logits=True)


def net(units, last=None):
    x = Input((4,))
    h = layers.Dense(units, name="head")(x)
    return Model(x, h if last is None else last(h), dtype="float64")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def both(p):
    return np.hstack([1 - p, p])


@pytest.mark.parametrize(
    ("units", "last", "loss", "function", "decide"),
    [
        (3, None, CE, softmax, lambda p: p.argmax(1)),
        (1, None, BCE_OF_LOGITS, lambda z: both(sigmoid(z)), lambda p: p.argmax(1)),
        (1, layers.Sigmoid(), BCE, both, lambda p: p.argmax(1)),
        (1, layers.Sigmoid(), MSE, both, lambda p: p.argmax(1)),
        (3, None, BCE_OF_LOGITS, sigmoid, lambda p: (p > 0.5).astype(int)),
        (3, layers.Sigmoid(), BCE, lambda p: p, lambda p: (p > 0.5).astype(int)),
        (3, layers.Sigmoid(), MSE, lambda p: p, lambda p: (p > 0.5).astype(int)),
    ],
)
def test_the_rule_of_each_loss(units, last, loss, function, decide):
    trainer = Trainer(net(units, last), loss, optimizers.SGD())
    expected = function(trainer.model.predict(X))
    found = trainer.predict_proba(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    decided = trainer.predict_classes(X, batch_size=3)
    assert decided.dtype == np.int64
    assert np.array_equal(decided, decide(expected))


def test_a_net_of_which_no_loss_is_known():
    for units, function in ((3, softmax), (1, lambda z: both(sigmoid(z)))):
        model = net(units)
        outputs = model.predict(X)
        np.testing.assert_allclose(probabilities(model.graph, outputs), function(outputs), rtol=1e-12)
        assert classes(model.graph, outputs).shape == (7,)


def test_large_logits_do_not_overflow():
    z = np.array([[1e4], [-1e4], [0.0]])
    with np.errstate(all="raise", under="ignore"):
        assert np.array_equal(probabilities(net(1).graph, z), [[0, 1], [1, 0], [0.5, 0.5]])
        assert np.array_equal(probabilities(net(2).graph, np.hstack([z, -z])), [[1, 0], [0, 1], [0.5, 0.5]])


def test_outputs_with_names():
    x = Input((4,))
    model = Model(x, {"kind": layers.Dense(3)(x), "is_red": layers.Dense(1)(x), "aside": layers.Dense(2)(x)})
    trainer = Trainer(model, {"kind": CE, "is_red": BCE_OF_LOGITS}, optimizers.SGD())
    assert {name: each.shape for name, each in trainer.predict_proba(X).items()} == {"kind": (7, 3), "is_red": (7, 2)}
    assert {name: each.shape for name, each in trainer.predict_classes(X).items()} == {"kind": (7,), "is_red": (7,)}


def test_numbers_are_no_classes():
    trainer = Trainer(net(2), MSE, optimizers.SGD())
    for predict in (trainer.predict_proba, trainer.predict_classes):
        with pytest.raises(ValueError, match="no classes: MeanSquaredError trains numbers"):
            predict(X)
    with pytest.raises(ValueError, match="expected one number, or one for each class"):
        probabilities(net(2).graph, np.zeros((2, 3, 4)))


def test_no_samples():
    assert Trainer(net(3), CE, optimizers.SGD()).predict_proba(X[:0]).shape == (0, 3)
