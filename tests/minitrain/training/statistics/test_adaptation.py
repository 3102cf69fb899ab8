"""Trained nets on shifted data: what each method of `Trainer.adapt` changes, and that it helps."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, models, optimizers
from minitrain.training.statistics.adaptation import Entropy

RNG = np.random.default_rng(0)
CENTERS = RNG.standard_normal((3, 6)) * 2


def samples(count, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return CENTERS[y] + rng.standard_normal((count, 6)), y


X, Y = samples(300, 1)
SHIFTED, LABELS = samples(200, 2)
SHIFTED = SHIFTED * np.array([0.2, 5.0, 1.0, 3.0, 0.5, 2.0]) + np.array([-6.0, 3.0, 9.0, -4.0, 6.0, 0.0])


@pytest.fixture(scope="module")
def trained():
    """Parameters and state of a trained net."""
    trainer = trainer_of()
    trainer.fit(X, Y, 20, 30, verbose=False)
    return trainer.model.flat_params.copy(), trainer.model.flat_state.copy()


def trainer_of(trained=None, norm="before"):
    model = models.mlp((6,), 3, hidden=(16, 16), norm=norm, seed=0, dtype="float64")
    if trained is not None:
        model.flat_params[...], model.flat_state[...] = trained
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))


def assert_same_state(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_statistics_are_those_of_a_calibration_and_help(trained):
    trainer, calibrated = trainer_of(trained), trainer_of(trained)
    before = trainer.evaluate(SHIFTED, LABELS)
    trainer.adapt(SHIFTED)
    calibrated.calibrate(SHIFTED)
    assert_same_state(trainer.model.state, calibrated.model.state)
    np.testing.assert_array_equal(trainer.model.flat_params, trained[0])
    after = trainer.evaluate(SHIFTED, LABELS)
    assert after["accuracy"] > before["accuracy"] + 0.1
    assert after["loss"] < before["loss"]


def test_a_mixture_weighs_the_training_as_so_many_samples(trained):
    trainer, calibrated = trainer_of(trained), trainer_of(trained)
    trainer.adapt(SHIFTED[:48], "mixture", prior=16)
    calibrated.calibrate(SHIFTED[:48])
    source, target = trainer_of(trained).model.state, calibrated.model.state
    expected = {name: 0.25 * source[name] + 0.75 * target[name] for name in target}
    assert_same_state(trainer.model.state, expected)
    alone = trainer_of(trained)
    alone.adapt(SHIFTED[:48], "mixture", prior=0)
    assert_same_state(alone.model.state, calibrated.model.state)


@pytest.mark.parametrize("norm", ["before", "layer"])
def test_tent_learns_scale_and_shift_alone_and_lowers_the_entropy(trained, norm):
    trainer = trainer_of(trained if norm == "before" else None, norm)
    model, entropy = trainer.model, Entropy()
    model.freeze("head", statistics=False)
    if norm == "before":
        trainer.calibrate(SHIFTED)
    before = {name: value.copy() for name, value in model.params.items()}
    first = entropy(model.predict(SHIFTED), np.zeros(200))
    trainer.adapt(SHIFTED, "tent", epochs=5, learning_rate=0.01)
    assert entropy(model.predict(SHIFTED), np.zeros(200)) < 0.9 * first
    for name, value in model.params.items():
        assert np.array_equal(before[name], value) == (name.split(".")[1] not in ("gamma", "beta")), name
    assert list(model.frozen) == ["head"]


def test_the_entropy_and_its_gradient():
    torch = pytest.importorskip("torch")
    z = RNG.standard_normal((7, 4)) * 3
    t = torch.from_numpy(z.copy()).requires_grad_()
    expected = torch.distributions.Categorical(logits=t).entropy().mean()
    expected.backward()
    gradient = np.empty_like(z)
    assert Entropy()(z, np.zeros(7), gradient) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, t.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_what_cannot_be_adapted_is_refused_and_stays(trained):
    trainer = trainer_of(trained)
    for arguments, message in (
        ({"method": "other"}, "method: expected"),
        ({"batch_size": 1}, "batch_size"),
        ({"prior": -1}, "prior"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.adapt(SHIFTED, **arguments)
    bad = SHIFTED.copy()
    bad[3] = np.nan
    for method in ("statistics", "mixture", "tent"):
        with pytest.raises((ValueError, ArithmeticError)):
            trainer.adapt(bad, method)
        np.testing.assert_array_equal(trainer.model.flat_params, trained[0])
        np.testing.assert_array_equal(trainer.model.flat_state, trained[1])
    with pytest.raises(ValueError, match="running statistics"):
        trainer_of(norm="layer").adapt(SHIFTED)
    with pytest.raises(ValueError, match="norms that learn"):
        trainer_of(norm=None).adapt(SHIFTED, "tent")
    x = Input((6,))
    regression = Model(x, layers.Dense(2)(layers.BatchNorm()(x)))
    with pytest.raises(ValueError, match="SoftmaxCrossEntropy"):
        Trainer(regression, losses.MeanSquaredError(), optimizers.SGD(0.1)).adapt(SHIFTED, "tent")
