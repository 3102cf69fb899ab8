"""Trainer: steps, gradients, evaluation."""

import tracemalloc

import numpy as np
import pytest
from small_trainer import CLASSES, everything, make_trainer, small_net

from minitrain import Input, Model, Trainer, layers, losses, metrics, models, optimizers


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6)).astype("float32")
    return x, x[:, :CLASSES].argmax(axis=1)


# --------------------------------------------------------------------------------------------------------- single steps


def test_step_updates_and_returns_the_loss_before(data):
    x, y = data
    trainer = make_trainer()
    expected, _ = trainer.gradients(x, y)
    before = everything(trainer)
    assert trainer.step(x, y) == expected
    assert trainer.steps == 1
    assert all(a != b for a, b in zip(before, everything(trainer), strict=True))


def test_gradients_change_nothing_and_are_copies(data):
    x, y = data
    trainer = make_trainer(small_net(dropout=True))
    before = everything(trainer)
    loss, gradients = trainer.gradients(x, y)
    again, same = trainer.gradients(x, y)
    assert everything(trainer) == before
    assert loss == again
    assert list(gradients) == list(trainer.model.params)
    for name, gradient in gradients.items():
        assert np.array_equal(gradient, same[name])
        assert not np.shares_memory(gradient, trainer.model.flat_gradients)


def test_gradients_match_central_differences(data):
    x, y = data
    model = small_net(dtype="float64")
    trainer = make_trainer(model)
    _, gradients = trainer.gradients(x, y)
    for name, index in (("dense.weight", (2, 3)), ("bn.gamma", (4,)), ("head.bias", (1,))):
        around = []
        value = model.params[name][index]
        for step in (1e-5, -1e-5):
            model.params[name][index] = value + step
            around.append(trainer.gradients(x, y)[0])
        model.params[name][index] = value
        assert gradients[name][index] == pytest.approx((around[0] - around[1]) / 2e-5, abs=1e-8)


def test_step_takes_lists_integers_and_other_dtypes():
    trainer = make_trainer()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (4, 6))
    expected = make_trainer().step(x.astype("float32"), [0, 1, 2, 0])
    assert trainer.step(x, np.array([0, 1, 2, 0], np.uint8)) == expected


def test_several_inputs(data):
    x, y = data
    a, b = Input((2,), name="a"), Input((4,), name="b")
    h = layers.Concat()(layers.Dense(4, name="one")(a), layers.Dense(4, name="two")(b))
    model = Model((a, b), layers.Dense(CLASSES, name="head")(layers.ReLU()(h)))
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    parts = (x[:, :2], x[:, 2:])
    history = trainer.fit(parts, y, epochs=3, batch_size=16, validation_data=(parts, y), verbose=False)
    assert history.metrics["loss"][2] < history.metrics["loss"][0]
    assert trainer.evaluate(parts, y)["loss"] == history.metrics["val_loss"][2]


def test_steady_state_allocates_next_to_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4096, 32)).astype("float32"), rng.integers(0, 10, 4096)
    trainer = make_trainer(models.mlp((32,), hidden=(64, 64)))
    for _ in range(2):
        trainer.step(x, y)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(3):
            trainer.step(x, y)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 64_000  # checks of the labels; a single activation has 1 MB


# ----------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("batch_size", [1, 7, 50, 256])
def test_evaluate_weights_batches_by_their_size(data, batch_size):
    x, y = data
    trainer = make_trainer()
    outputs = trainer.model.predict(x)
    measured = trainer.evaluate(x, y, batch_size)
    assert measured["loss"] == pytest.approx(trainer.loss(outputs, trainer.loss.targets(y, outputs.shape)), rel=1e-5)
    assert measured["accuracy"] == pytest.approx(np.mean(outputs.argmax(axis=1) == y))


def test_metrics_can_be_chosen(data):
    x, y = data
    assert list(make_trainer(metrics=()).evaluate(x, y)) == ["loss"]
    assert list(make_trainer(metrics=[metrics.TopK(2)]).evaluate(x, y)) == ["loss", "top_2"]
    assert list(make_trainer(metrics={"right": metrics.accuracy}).evaluate(x, y)) == ["loss", "right"]
    x1 = Input((6,))
    regression = Model(x1, layers.Dense(1, name="head")(x1))
    assert list(Trainer(regression, losses.MeanSquaredError(), optimizers.SGD()).metrics) == []
    with pytest.raises(TypeError, match="metrics: expected callables"):
        make_trainer(metrics={"loss": metrics.accuracy})
