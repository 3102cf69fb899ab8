"""Optimizers against PyTorch and the float64 twin; penalties, clipping, threads, allocation, copies, errors."""

import copy
import dataclasses
import json
import pickle
import tracemalloc

import numba
import numpy as np
import pytest
import reference_optimizers as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain import optimizers, schedules
from minitrain.optimizers import SGD, Adam, AdamW, ParameterRun, ParameterRuns, RMSprop

SHAPES = [(7, 3), (7,), (5, 7), (5,)]  # weight, bias, weight, bias: the biases are not penalized
SIZE = sum(int(np.prod(shape)) for shape in SHAPES)
STARTS = np.cumsum([0, *(int(np.prod(shape)) for shape in SHAPES)])
RUNS = tuple((slice(int(a), int(b)), len(s) > 1) for a, b, s in zip(STARTS, STARTS[1:], SHAPES, strict=False))
MASK = np.concatenate([np.full(run.stop - run.start, applies) for run, applies in RUNS])
STEPS = 20

CASES = [
    SGD(0.1),
    SGD(0.05, momentum=0.9, l1=1e-3, l2=1e-2),
    SGD(0.05, momentum=0.9, nesterov=True, clip_norm=1.0, clip_value=0.1),
    Adam(1e-2, l2=1e-2),
    Adam(schedules.Cosine(1e-2, total_steps=STEPS), clip_norm=3.0),
    AdamW(1e-2, weight_decay=0.1, l1=1e-3),
    RMSprop(1e-2, l1=1e-2),
    RMSprop(1e-2, momentum=0.9, alpha=0.9, l2=1e-3),
    RMSprop(1e-2, momentum=0.5, centered=True, clip_value=0.5),
    RMSprop(1e-2, centered=True),
]


def problem(dtype, size=SIZE, steps=STEPS, seed=0):
    """Starting parameters and the gradients of every step."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size).astype(dtype), rng.standard_normal((steps, size)).astype(dtype)


def run(optimizer, params, all_grads, penalized=RUNS):
    params = params.copy()
    slots = optimizer.slots(params)
    for step, grads in enumerate(all_grads):
        optimizer.update(params, grads, slots, step, penalized)
    return params, slots


def run_torch(torch, optimizer, params, all_grads):
    """The same steps by torch.optim, with a parameter group without weight decay for the biases."""
    tensors = [torch.tensor(params[run].reshape(s)) for (run, _), s in zip(RUNS, SHAPES, strict=True)]
    decay = optimizer.weight_decay if isinstance(optimizer, AdamW) else optimizer.l2
    groups = [
        {"params": [t for t, (_, applies) in zip(tensors, RUNS, strict=True) if applies], "weight_decay": decay},
        {"params": [t for t, (_, applies) in zip(tensors, RUNS, strict=True) if not applies], "weight_decay": 0.0},
    ]
    rate = optimizer.learning_rate_at(0)
    if isinstance(optimizer, SGD):
        peer = torch.optim.SGD(groups, rate, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    elif isinstance(optimizer, Adam):
        kind = torch.optim.AdamW if isinstance(optimizer, AdamW) else torch.optim.Adam
        peer = kind(groups, rate, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps)
    else:
        options = {name: getattr(optimizer, name) for name in ("alpha", "eps", "momentum", "centered")}
        peer = torch.optim.RMSprop(groups, rate, **options)
    for step, grads in enumerate(all_grads):
        for tensor, (run, _), shape in zip(tensors, RUNS, SHAPES, strict=True):
            tensor.grad = torch.tensor(grads[run].reshape(shape))
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, optimizer.clip_norm)
        if optimizer.clip_value is not None:
            torch.nn.utils.clip_grad_value_(tensors, optimizer.clip_value)
        for tensor, (_, applies) in zip(tensors, RUNS, strict=True):
            if applies:
                tensor.grad += optimizer.l1 * torch.sign(tensor)
        for group in peer.param_groups:
            group["lr"] = optimizer.learning_rate_at(step)
        peer.step()
    return np.concatenate([tensor.numpy().ravel() for tensor in tensors])


def fraction(low, high):
    return st.one_of(st.just(low), st.floats(low, high))


COMMON = {
    "learning_rate": st.one_of(
        st.floats(1e-4, 0.1), st.builds(schedules.Cosine, st.floats(1e-3, 0.1), st.integers(5, 30))
    ),
    "l1": fraction(0.0, 0.1),
    "clip_norm": st.one_of(st.none(), st.floats(0.1, 20)),
    "clip_value": st.one_of(st.none(), st.floats(0.1, 3)),
}
WITH_L2 = {**COMMON, "l2": fraction(0.0, 0.1)}
BETAS = {"beta1": st.floats(0.0, 0.99), "beta2": st.floats(0.5, 0.9999), "eps": st.sampled_from([1e-8, 1e-4])}
ANY_OPTIMIZER = st.one_of(
    st.builds(SGD, momentum=fraction(0.0, 0.99), **WITH_L2),
    st.builds(SGD, momentum=st.floats(0.1, 0.99), nesterov=st.just(True), **WITH_L2),
    st.builds(Adam, **BETAS, **WITH_L2),
    st.builds(AdamW, weight_decay=fraction(0.0, 0.5), **BETAS, **COMMON),
    st.builds(RMSprop, alpha=st.floats(0.5, 0.99), momentum=fraction(0.0, 0.9), centered=st.booleans(), **WITH_L2),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ANY_OPTIMIZER)
def test_torch_float64(optimizer):
    torch = pytest.importorskip("torch")
    params, all_grads = problem(np.float64)
    expected = run_torch(torch, optimizer, params, all_grads)
    np.testing.assert_allclose(run(optimizer, params, all_grads)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", CASES, ids=lambda o: type(o).__name__)
def test_torch_float32(optimizer):
    torch = pytest.importorskip("torch")
    params, all_grads = problem(np.float32)
    actual, slots = run(optimizer, params, all_grads)
    assert {slot.dtype for slot in slots.values()} <= {np.dtype(np.float32)}
    np.testing.assert_allclose(actual, run_torch(torch, optimizer, params, all_grads), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", CASES, ids=lambda o: type(o).__name__)
def test_twin(optimizer, dtype):
    params, all_grads = problem(dtype, seed=1)
    actual, slots = run(optimizer, params, all_grads)
    expected, expected_slots = params.astype(np.float64), optimizer.slots(params.astype(np.float64))
    for step, grads in enumerate(all_grads):
        expected = reference.update(optimizer, expected, grads, expected_slots, step, MASK)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5, "atol": 2e-6}
    np.testing.assert_allclose(actual, expected, **tolerance)
    assert slots.keys() == expected_slots.keys()
    for name in slots:
        np.testing.assert_allclose(slots[name], expected_slots[name], **tolerance)


BIG = 50_001
BIG_RUNS = ((slice(0, 30_000), True), (slice(30_000, 30_100), False), (slice(30_100, BIG), True))
BIG_CASES = [
    SGD(0.1, l1=0.01, clip_norm=1.0),
    SGD(0.1, momentum=0.9, l2=0.1),
    AdamW(clip_value=0.5),
    RMSprop(momentum=0.9, centered=True),
]


@pytest.mark.parametrize("optimizer", BIG_CASES, ids=str)
def test_same_bits_for_any_threads(optimizer, monkeypatch):
    params, all_grads = problem(np.float32, BIG, 3)
    before = numba.get_num_threads()
    results = [run(optimizer, params, all_grads, BIG_RUNS)]
    try:
        numba.set_num_threads(1)
        results.append(run(optimizer, params, all_grads, BIG_RUNS))
    finally:
        numba.set_num_threads(before)
    monkeypatch.setattr("nbnorm.jit.dispatch.SERIAL_WORK", BIG + 1)
    results.append(run(optimizer, params, all_grads, BIG_RUNS))
    for other, other_slots in results[1:]:
        np.testing.assert_array_equal(results[0][0], other)
        for name, slot in results[0][1].items():
            np.testing.assert_array_equal(slot, other_slots[name])


def test_update_allocates_nothing_and_leaves_gradients():
    params, all_grads = problem(np.float32, BIG, 3)
    kept = all_grads.copy()
    optimizer = BIG_CASES[2]
    slots = optimizer.slots(params)
    optimizer.update(params, all_grads[0], slots, 0, BIG_RUNS)
    tracemalloc.start()
    try:
        optimizer.update(params, all_grads[1], slots, 1, BIG_RUNS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024
    np.testing.assert_array_equal(all_grads, kept)


def test_penalties_reach_penalized_runs_only():
    params = np.array([1.0, -2.0, 0.0, 3.0, 4.0])
    runs = ((slice(0, 3), True), (slice(4, 5), True))
    SGD(1.0, l1=0.25, l2=0.5).update(params, np.zeros(5), {}, 0, runs)
    np.testing.assert_array_equal(params, [1 - 0.5 - 0.25, -2 + 1 + 0.25, 0, 3, 4 - 2 - 0.25])


def test_nan_gradient_stays_in_its_parameter_unless_the_norm_clips():
    grads = np.array([np.nan, 1.0])
    for optimizer, finite in ((Adam(clip_value=1.0), [False, True]), (SGD(0.1, clip_norm=1.0), [False, False])):
        params = np.ones(2)
        optimizer.update(params, grads, optimizer.slots(params), 0, ())
        np.testing.assert_array_equal(np.isfinite(params), finite)


def test_centered_rmsprop_survives_constant_gradients():
    params = np.zeros(4, np.float32)
    optimizer = RMSprop(1e-3, alpha=0.5, eps=1e-2, centered=True)  # the variance is 0 up to rounding
    grads = np.array([0.1, 0.3, 1.7, 1e-3], np.float32)
    slots = optimizer.slots(params)
    for step in range(200):
        optimizer.update(params, grads, slots, step, ())
        assert np.isfinite(params).all()


def test_remembers_pieces_but_not_for_others():
    optimizer = SGD(1.0, l2=0.5)
    for runs, expected in (((slice(0, 1), True),), [0.5, 1]), (((slice(1, 2), True),), [1, 0.5]):
        params = np.ones(2)
        for _ in range(2):
            params[:] = 1
            optimizer.update(params, np.zeros(2), {}, 0, runs)
        np.testing.assert_array_equal(params, expected)
    assert optimizer == SGD(1.0, l2=0.5)
    assert pickle.loads(pickle.dumps(optimizer)).__dict__.keys() == SGD(1.0, l2=0.5).__dict__.keys()


EVERYWHERE = [
    SGD(0.1, momentum=0.9, l1={"*.gamma": 1e-4}, rate={"*": 2, "head.*": 0}),
    Adam(l2={"*.weight": 5e-4, "head.*": 0.0}),
    AdamW(weight_decay={"conv*": 0.1}, rate={}),
    RMSprop(l1=0.1, l2={}, clip_norm=1.0),
]


@pytest.mark.parametrize("optimizer", EVERYWHERE, ids=lambda o: type(o).__name__)
def test_config_makes_an_equal_optimizer(optimizer):
    config = json.loads(json.dumps(optimizer.config()))
    made = getattr(optimizers, config.pop("class"))(**config)
    assert made == optimizer
    assert hash(made) == hash(optimizer)
    assert made.config() == optimizer.config()
    assert eval(repr(optimizer)) == optimizer


@pytest.mark.parametrize("optimizer", [*CASES, *EVERYWHERE], ids=str)
def test_copies_are_equal_and_remember_nothing(optimizer):
    params = np.ones(2)
    runs = ParameterRuns(
        [ParameterRun(slice(0, 1), True, "head.gamma"), ParameterRun(slice(1, 2), True, "conv.weight")]
    )
    optimizer.update(params, np.ones(2), optimizer.slots(params), 0, runs)
    for other in (copy.copy(optimizer), copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other == optimizer
        assert hash(other) == hash(optimizer)
        assert other.__dict__.keys() == {field.name for field in dataclasses.fields(optimizer)}
    assert dataclasses.replace(optimizer, learning_rate=0.5).config() == {**optimizer.config(), "learning_rate": 0.5}


def test_what_a_user_gave_is_not_kept():
    given = {"*": 1.0}
    optimizer = SGD(l1=given, l2=given, rate=given)
    given["*"] = -1.0
    assert optimizer.l1 == optimizer.l2 == optimizer.rate == {"*": 1.0}


def test_another_order_is_another_optimizer():
    first, second = {"*.weight": 1.0, "head.*": 2.0}, {"head.*": 2.0, "*.weight": 1.0}
    assert SGD(l1=first) == SGD(l1=dict(first)) != SGD(l1=second)


def test_config_is_json():
    optimizer = AdamW(schedules.LinearWarmup(5, schedules.Step(0.1, milestones=(2, 3))), clip_norm=1.0)
    config = json.loads(json.dumps(optimizer.config()))
    assert config["class"] == "AdamW"
    assert config["clip_norm"] == 1.0
    assert config["learning_rate"]["then"] == schedules.Step(0.1, milestones=(2, 3)).config()
    assert set(config) - {"class"} == {
        *("learning_rate", "beta1", "beta2", "eps", "weight_decay", "l1", "l2", "clip_norm", "clip_value")
    }


VECTOR = np.zeros(3)


class Diverging(schedules.Schedule):
    def __call__(self, step):
        return float("nan")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(-0.1), ValueError, "learning_rate: expected a finite number >= 0, got -0.1"),
        (lambda: SGD(float("nan")), ValueError, "learning_rate: expected a finite number"),
        (lambda: SGD("0.1"), TypeError, "learning_rate: expected a number, got '0.1'"),
        (lambda: SGD(0.1, momentum=1.0), ValueError, "momentum: expected a finite number >= 0 and < 1, got 1.0"),
        (lambda: SGD(0.1, nesterov=True), ValueError, "nesterov: expected a momentum > 0"),
        (lambda: SGD(0.1, l1=-1), ValueError, "l1: expected"),
        (lambda: Adam(beta1=1), ValueError, "beta1: expected"),
        (lambda: Adam(beta2=-0.1), ValueError, "beta2: expected"),
        (lambda: Adam(eps=float("inf")), ValueError, "eps: expected"),
        (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay: expected"),
        (lambda: RMSprop(alpha=1.5), ValueError, "alpha: expected"),
        (lambda: SGD(l1={"*": -1}), ValueError, r"l1\['\*'\]: expected a finite number >= 0, got -1"),
        (lambda: SGD(l2={"a": 1, "b": float("inf")}), ValueError, r"l2\['b'\]: expected a finite number"),
        (lambda: SGD(l2={"a": "1"}), TypeError, r"l2\['a'\]: expected a number, got '1'"),
        (lambda: SGD(l1={1: 1.0}), TypeError, "l1: expected globs of parameter names .*, got 1"),
        (lambda: SGD(l1=[("*", 1.0)]), TypeError, "l1: expected a number"),
        (lambda: SGD(l2=None), TypeError, "l2: expected a number"),
        (lambda: AdamW(weight_decay={"*": float("nan")}), ValueError, r"weight_decay\['\*'\]: expected a finite"),
        (lambda: RMSprop(rate={"*": -0.5}), ValueError, r"rate\['\*'\]: expected a finite number >= 0"),
        (lambda: Adam(rate=10), TypeError, "rate: expected a mapping of globs of parameter names to numbers, got 10"),
        (lambda: Adam(rate=["head.*"]), TypeError, "rate: expected a mapping"),
        (lambda: SGD(l1={"a": 1}).update(VECTOR, VECTOR, {}, 0, ()), ValueError, "l1: expected .*none has a name"),
        (lambda: RMSprop(clip_norm=0), ValueError, "clip_norm: expected a finite number > 0, got 0"),
        (lambda: SGD(Diverging()).learning_rate_at(7), ValueError, "learning_rate: expected .* at step 7, got nan"),
        (lambda: optimizers.Optimizer().update(VECTOR, VECTOR, {}, 0, ()), TypeError, "no update rule"),
        (lambda: SGD().update(VECTOR, VECTOR[:2], {}, 0, ()), ValueError, r"grads: expected .*\(3,\), got .*\(2,\)"),
        (lambda: SGD().update(VECTOR.reshape(1, 3), VECTOR, {}, 0, ()), ValueError, "params: expected a contiguous"),
        (lambda: SGD().update(VECTOR, VECTOR.astype("f4"), {}, 0, ()), ValueError, "grads: expected .*float64"),
        (lambda: Adam().update(VECTOR, VECTOR, {"mean": VECTOR}, 0, ()), ValueError, "slots: expected .*square"),
        (lambda: SGD().update(VECTOR, VECTOR, {}, 0, ((slice(0, 4), True),)), ValueError, "penalized: expected"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
