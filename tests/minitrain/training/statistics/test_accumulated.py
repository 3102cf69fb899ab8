"""Running statistics under `accumulate`: they move once a step, by what all its batches hold."""

import threading

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.layers import Renorm
from minitrain.training.diagnosis import NonFiniteLossError
from minitrain.training.statistics.of_batches import PooledMove

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 3, 5)) * 2 + 1
Y = RNG.standard_normal((24, 2))
MASK = RNG.random((24, 5)) < 0.7


def model_of(norm, *more):
    x, *others = Input((3, 5)), *more
    h = norm(x, *others) if others else norm(x)
    return Model([x, *others] if others else x, layers.Dense(2)(layers.Flatten()(h)), dtype="float64", seed=1)


def state_after(model, batch_size, accumulate, x=X, steps=1):
    trainer = Trainer(model, losses.MeanSquaredError(), optimizers.SGD(0.0))
    trainer.fit(x, Y, steps, batch_size, accumulate=accumulate, shuffle=False, verbose=False)
    return {name: value.copy() for name, value in model.state.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    "norm",
    [
        {},
        {"momentum": 0.3},
        {"momentum": None},
        {"debias": True},
        {"period": 9},
        {"threshold": 2.0},
        {"affine": False},
    ],
)
@pytest.mark.parametrize("batch_size", [8, 5])  # 5: the last of them are smaller
def test_several_batches_move_them_as_one_does(norm, batch_size):
    whole = state_after(model_of(layers.BatchNorm(**norm)), 24, 1, steps=3)
    parts = state_after(model_of(layers.BatchNorm(**norm)), batch_size, -(-24 // batch_size), steps=3)
    assert_same(parts, whole)


def test_valid_values_are_counted_not_positions():
    nets = [model_of(layers.BatchNorm(), Input((5,), dtype="bool")) for _ in range(2)]
    whole = state_after(nets[0], 24, 1, [X, MASK])
    parts = state_after(nets[1], 7, 4, [X, MASK])
    assert_same(parts, whole)
    valid = X.transpose(0, 2, 1)[MASK]
    np.testing.assert_allclose(parts["bn1.running_mean"], 0.1 * valid.mean(axis=0), rtol=1e-12)


def test_conditional_norms_and_ghosts():
    labels = np.arange(24) % 3
    nets = [model_of(layers.ConditionalBatchNorm(3), Input((), dtype="int64")) for _ in range(2)]
    assert_same(state_after(nets[1], 8, 3, [X, labels]), state_after(nets[0], 24, 1, [X, labels]))
    ghosts = state_after(model_of(layers.BatchNorm(ghost_size=3)), 8, 3)  # all ghosts pooled: exactly the whole batch
    plain = state_after(model_of(layers.BatchNorm()), 24, 1)
    assert_same(ghosts, plain)


def test_fused_norms():
    def net():
        x = Input((3, 6, 6))
        h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(16, 3, padding=1, bias=False)(x)))
        h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(16, 3, padding=1, bias=False)(h)))
        return Model(x, layers.Dense(2)(layers.GlobalAvgPool()(h)), seed=1)

    x = RNG.standard_normal((24, 3, 6, 6)).astype("float32")
    found = state_after(net(), 8, 3, x)
    whole = state_after(net(), 24, 1, x)
    # The first norm sees the same; the second sees what was normalized in parts.
    np.testing.assert_allclose(found["bn1.running_mean"], whole["bn1.running_mean"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["bn1.running_var"], whole["bn1.running_var"], rtol=1e-5)
    np.testing.assert_allclose(found["bn2.running_var"], whole["bn2.running_var"], rtol=0.2)


def test_norms_that_are_called_twice_pool_both_calls():
    norm = layers.BatchNorm()
    x = Input((3, 5))
    model = Model(x, layers.Dense(2)(layers.Flatten()(norm(layers.Tanh()(norm(x))))), dtype="float64")
    state = state_after(model, 8, 3)
    h = [X[k : k + 8] for k in (0, 8, 16)]
    gauged = [(p - p.mean((0, 2), keepdims=True)) / np.sqrt(p.var((0, 2), keepdims=True) + 1e-5) for p in h]
    values = np.concatenate([X, np.tanh(np.concatenate(gauged))])
    np.testing.assert_allclose(state["bn1.running_mean"], 0.1 * values.mean((0, 2)), rtol=1e-9)
    np.testing.assert_allclose(state["bn1.running_var"], 0.9 + 0.1 * values.var((0, 2), ddof=1), rtol=1e-9)


def test_renormalization_sees_the_statistics_before_the_step():
    state = state_after(model_of(layers.BatchNorm(renorm=Renorm(3.0, 5.0, 0, 0))), 8, 3)
    assert state["bn1.num_batches"] == 1
    plain = state_after(model_of(layers.BatchNorm()), 24, 1)
    np.testing.assert_allclose(state["bn1.running_var"], plain["bn1.running_var"], rtol=1e-12)


def test_frozen_statistics_stay_and_those_of_norms_that_learn_nothing_move():
    model = model_of(layers.BatchNorm(affine=False))
    model.freeze("bn1")
    before = model.flat_state.copy()
    state_after(model, 8, 3)
    np.testing.assert_array_equal(model.flat_state, before)
    learns_nothing = model_of(layers.BatchNorm())
    learns_nothing.freeze("bn1", statistics=False)
    assert_same(state_after(learns_nothing, 8, 3), state_after(model_of(layers.BatchNorm()), 24, 1))


def test_a_step_that_fails_leaves_no_trace():
    model = model_of(layers.BatchNorm())
    before, bad = model.flat_state.copy(), X.copy()
    bad[20] = np.nan
    with pytest.raises(NonFiniteLossError):
        state_after(model, 8, 3, bad)
    np.testing.assert_array_equal(model.flat_state, before)


def test_other_threads_wait_for_the_whole_step(monkeypatch):
    model, undo, free = model_of(layers.BatchNorm()), PooledMove.undo, []

    def look_and_undo(move):
        other = threading.Thread(target=lambda: free.append(model._plans._lock.acquire(blocking=False)))
        other.start()
        other.join()
        undo(move)

    monkeypatch.setattr(PooledMove, "undo", look_and_undo)
    state_after(model, 8, 3)
    assert free == [False] * 3
