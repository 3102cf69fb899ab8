"""Calibrated batch norms have the statistics of the data: against NumPy, PyTorch, and whatever the batches are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainer import make_trainer

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.callbacks import PreciseBatchNorm
from minitrain.layers import Renorm

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((23, 2, 6, 6)) * 3 + 1
TARGETS = RNG.standard_normal((23, 3))


def deep_net(dtype="float64", **norm):
    x = Input((2, 6, 6))
    h = layers.ReLU()(layers.BatchNorm(**norm, name="a")(layers.Conv2d(4, 3, padding=1, bias=False, name="c1")(x)))
    skip = h
    h = layers.ReLU()(layers.BatchNorm(**norm, name="b")(layers.Conv2d(4, 3, padding=1, bias=False, name="c2")(h)))
    h = layers.Dropout(0.5)(layers.BatchNorm(**norm, name="c")(layers.Conv2d(4, 3, padding=1, name="c3")(h)))
    h = layers.ReLU()(layers.Add()(h, skip))
    return Model(x, layers.Dense(3, name="head")(layers.GlobalAvgPool()(h)), seed=1, dtype=dtype)


def trainer_of(model):
    return Trainer(model, losses.MeanSquaredError(), optimizers.SGD(0.1))


def calibrated(model, x=IMAGES, batch_size=256):
    trainer_of(model).calibrate(x, batch_size)
    return {name: value.copy() for name, value in model.state.items()}


def test_one_norm_has_the_statistics_of_the_data():
    x = Input((2, 6, 6))
    state = calibrated(Model(x, layers.BatchNorm(momentum=0.5)(x), dtype="float64"), batch_size=7)
    np.testing.assert_allclose(state["bn1.running_mean"], IMAGES.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(state["bn1.running_var"], IMAGES.var((0, 2, 3), ddof=1), rtol=1e-13)


def test_a_deep_net_has_those_of_pytorch_s_training_mode_on_all_data_at_once():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = deep_net()
    state = calibrated(model, batch_size=5)
    weight = {name: torch.from_numpy(value.copy()) for name, value in model.params.items()}
    running = {name: (torch.zeros(4).double(), torch.ones(4).double()) for name in "abc"}

    def norm(name, h):
        return functional.batch_norm(h, *running[name], training=True, momentum=1.0)

    h = functional.conv2d(torch.from_numpy(IMAGES), weight["c1.weight"], padding=1)
    h = functional.conv2d(torch.relu(norm("a", h)), weight["c2.weight"], padding=1)
    norm("c", functional.conv2d(torch.relu(norm("b", h)), weight["c3.weight"], weight["c3.bias"], padding=1))
    for name, (mean, var) in running.items():
        np.testing.assert_allclose(state[f"{name}.running_mean"], mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(state[f"{name}.running_var"], var, rtol=1e-10)


@settings(deadline=None, max_examples=8)
@given(batch_size=st.integers(1, 30), order=st.permutations(range(23)))
def test_batches_and_their_order_do_not_matter(batch_size, order):
    expected = calibrated(deep_net(), batch_size=23)
    for name, value in calibrated(deep_net(), IMAGES[list(order)], batch_size).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("norm", [{"momentum": None}, {"debias": True}, {"affine": False}, {"ghost_size": 4},
                                  {"renorm": Renorm()}, {"threshold": 3.0}], ids=str)  # fmt: skip
def test_every_form_has_them(norm):
    expected, state = calibrated(deep_net()), calibrated(deep_net(**norm), batch_size=4)
    for name, value in expected.items():
        if name.startswith("a."):  # the others read what parameters of norms have made
            np.testing.assert_allclose(state[name], value, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_types_of_floats(dtype):
    exact = calibrated(deep_net("float64"))
    for name, value in calibrated(deep_net(dtype), IMAGES.astype(dtype), batch_size=6).items():
        tolerance = 1e-11 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(value, exact[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_only_valid_values_count():
    x, lengths = Input((3, 8)), Input((), "int64", name="lengths")
    model = Model([x, lengths], layers.BatchNorm()(x, lengths), dtype="float64")
    values, count = RNG.standard_normal((9, 3, 8)), RNG.integers(0, 9, 9)
    values[np.broadcast_to(np.arange(8) >= count[:, None, None], values.shape)] = np.nan
    state = calibrated(model, [values, count], batch_size=2)
    valid = np.concatenate([values[n, :, : count[n]] for n in range(9)], axis=1)
    np.testing.assert_allclose(state["bn1.running_mean"], valid.mean(1), rtol=1e-12)
    np.testing.assert_allclose(state["bn1.running_var"], valid.var(1, ddof=1), rtol=1e-12)


def test_a_layer_that_is_called_twice_pools_both_calls():
    a, b, norm = Input((2,), name="a"), Input((2,), name="b"), layers.BatchNorm(name="n")
    model = Model([a, b], layers.Add()(norm(a), norm(b)), dtype="float64")
    x, y = RNG.standard_normal((2, 10, 2))
    state = calibrated(model, [x, y + 5], batch_size=3)
    both = np.concatenate([x, y + 5])
    np.testing.assert_allclose(state["n.running_mean"], both.mean(0), rtol=1e-13)
    np.testing.assert_allclose(state["n.running_var"], both.var(0, ddof=1), rtol=1e-13)


def test_frozen_statistics_stay_and_parameters_too():
    model = deep_net()
    model.freeze("a", statistics=True)
    before, params = {name: value.copy() for name, value in model.state.items()}, model.flat_params.copy()
    state = calibrated(model)
    np.testing.assert_array_equal(state["a.running_mean"], before["a.running_mean"])
    assert not np.array_equal(state["b.running_mean"], before["b.running_mean"])
    np.testing.assert_array_equal(model.flat_params, params)


def test_batches_that_come_one_after_the_other():
    batches = [(IMAGES[:9], TARGETS[:9]), (IMAGES[9:], TARGETS[9:])]
    expected = calibrated(deep_net())
    for name, value in calibrated(deep_net(), batches).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match=r"x: expected what can be iterated over 3 times .* runs dry"):
        calibrated(deep_net(), iter(batches))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (IMAGES[:0], "x: expected one or more samples, got none"),
        (IMAGES[:, :1], "x: expected shape"),
        (np.where(IMAGES > 8, np.nan, IMAGES), "a: expected data whose mean and variance are finite"),
    ],
)
def test_what_is_refused_changes_nothing(x, message):
    model = deep_net()
    before = model.flat_state.copy()
    with pytest.raises(ValueError, match=message):
        calibrated(model, x)
    np.testing.assert_array_equal(model.flat_state, before)
    with pytest.raises(ValueError, match="batch_size: expected an integer >= 1, got 0"):
        calibrated(model, IMAGES, 0)


def test_one_value_per_channel_is_too_few():
    x = Input((2,))
    with pytest.raises(ValueError, match=r"bn1: x: expected two or more \(valid\) values per channel, got 1"):
        calibrated(Model(x, layers.BatchNorm()(x)), np.zeros((1, 2)))


@pytest.mark.parametrize("validation", [None, (IMAGES, TARGETS)])
def test_the_callback_calibrates_before_the_validation(validation):
    model = deep_net()
    trainer, seen = trainer_of(model), []
    callback = PreciseBatchNorm(IMAGES, batch_size=10, every=2)
    for _ in range(2):
        trainer.fit(IMAGES, TARGETS, 1, 8, validation_data=validation, callbacks=[callback], verbose=False)
        seen.append(model.flat_state.copy())
    calibrated(model, batch_size=10)
    np.testing.assert_array_equal(model.flat_state, seen[1])  # it was calibrated already, by the same weights
    assert not np.array_equal(seen[0], seen[1])
    assert repr(callback) == "PreciseBatchNorm(batch_size=10, every=2)"
    with pytest.raises(ValueError, match="x: expected shape"):
        make_trainer().fit(np.zeros((4, 6)), np.zeros(4, int), callbacks=[callback], verbose=False)
