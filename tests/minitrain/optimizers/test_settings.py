"""Settings that differ between parameters, against PyTorch's parameter groups and NumPy; frozen parameters."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np
import pytest
import small_trainer
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain import schedules
from minitrain.optimizers import SGD, Adam, AdamW, ParameterRun, ParameterRuns, RMSprop

SIZES = {"conv1.weight": 21, "conv2.weight": 35, "head.weight": 12, "conv1.bias": 7, "bn1.gamma": 5, "head.bias": 4}
STARTS = np.cumsum([0, *SIZES.values()])
RUNS = ParameterRuns(
    ParameterRun(slice(int(start), int(start) + size), name.endswith("weight"), name)
    for start, (name, size) in zip(STARTS, SIZES.items(), strict=False)
)
SIZE = int(STARTS[-1])
STEPS = 20
PENALTY = {"*.weight": 0.05, "*.gamma": 0.2, "head.*": 0.0}
RATE = {"head.*": 10, "head.bias": 3, "conv1.*": 0.5, "bn?.*": 0}

CASES = [
    SGD(0.01, l2=PENALTY, rate=RATE),
    SGD(0.01, momentum=0.9, l2=PENALTY, rate=RATE),
    SGD(schedules.Cosine(0.02, STEPS), momentum=0.9, nesterov=True, l1={"conv2.*": 1e-3}, l2=0.1, rate=RATE),
    Adam(1e-3, l1={"*": 1e-3}, l2=PENALTY, rate=RATE, clip_norm=1.0),
    AdamW(1e-3, weight_decay=PENALTY, rate=RATE),
    AdamW(schedules.Cosine(1e-2, STEPS), weight_decay=0.1, l1=1e-3, rate={"*": 0.1}, clip_value=0.5),
    AdamW(1e-3, weight_decay={}, l2={"*.bias": 0.1}),
    RMSprop(1e-3, l2=PENALTY, rate=RATE),
    RMSprop(1e-3, momentum=0.9, l1=PENALTY, rate=RATE),
    RMSprop(1e-3, momentum=0.5, centered=True, l2=PENALTY, rate=RATE),
]


def problem(dtype=np.float64, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size).astype(dtype), rng.standard_normal((STEPS, size)).astype(dtype)


def run(optimizer, params, all_grads, runs=RUNS):
    params = params.copy()
    slots = optimizer.slots(params)
    for step, grads in enumerate(all_grads):
        optimizer.update(params, grads, slots, step, runs)
    return params, slots


def last_match(setting, name, otherwise):
    """What a setting says of a parameter: `otherwise` where it is no mapping or no glob of it matches."""
    number = otherwise
    for glob, value in setting.items() if isinstance(setting, Mapping) else ():
        if fnmatchcase(name, glob):
            number = value
    return number


def penalty(setting, each):
    if isinstance(setting, Mapping):
        return last_match(setting, each.name, 0.0)
    return setting if each.penalized else 0.0


def run_torch(optimizer, params, all_grads):
    """The same steps by torch.optim, with a parameter group for each parameter."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(params[each.run]) for each in RUNS]
    decay = optimizer.weight_decay if isinstance(optimizer, AdamW) else optimizer.l2
    groups = [{"params": [t], "weight_decay": penalty(decay, each)} for t, each in zip(tensors, RUNS, strict=True)]
    if isinstance(optimizer, SGD):
        peer = torch.optim.SGD(groups, 1.0, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    elif isinstance(optimizer, Adam):
        kind = torch.optim.AdamW if isinstance(optimizer, AdamW) else torch.optim.Adam
        peer = kind(groups, 1.0, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps)
    else:
        options = {name: getattr(optimizer, name) for name in ("alpha", "eps", "momentum", "centered")}
        peer = torch.optim.RMSprop(groups, 1.0, **options)
    for step, grads in enumerate(all_grads):
        for tensor, each in zip(tensors, RUNS, strict=True):
            tensor.grad = torch.tensor(grads[each.run])
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, optimizer.clip_norm)
        if optimizer.clip_value is not None:
            torch.nn.utils.clip_grad_value_(tensors, optimizer.clip_value)
        for tensor, each, group in zip(tensors, RUNS, peer.param_groups, strict=True):
            tensor.grad += penalty(optimizer.l1, each) * torch.sign(tensor)
            if isinstance(optimizer, AdamW):  # whose L2 is beside its weight decay
                tensor.grad += penalty(optimizer.l2, each) * tensor
            group["lr"] = optimizer.learning_rate_at(step) * last_match(optimizer.rate, each.name, 1.0)
        peer.step()
    return np.concatenate([tensor.numpy() for tensor in tensors])


@pytest.mark.parametrize("optimizer", CASES, ids=str)
def test_parameter_groups_of_torch(optimizer):
    params, all_grads = problem()
    np.testing.assert_allclose(
        run(optimizer, params, all_grads)[0], run_torch(optimizer, params, all_grads), rtol=1e-12, atol=1e-12
    )


GLOBS = st.dictionaries(
    st.sampled_from(["*", "*.weight", "*.bias", "conv*", "conv[12].*", "head.*", "head.weight", "bn1.gamma"]),
    st.floats(0.0, 0.5),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(GLOBS | st.floats(0.0, 0.5), GLOBS | st.floats(0.0, 0.5), GLOBS | st.none())
def test_overlapping_globs_against_numpy(l1, l2, rate):
    params, all_grads = problem(seed=1)
    expected = params.copy()
    for grads in all_grads:
        for each in RUNS:
            w = expected[each.run]
            g = grads[each.run] + penalty(l2, each) * w + penalty(l1, each) * np.sign(w)
            expected[each.run] = w - 0.01 * last_match(rate, each.name, 1.0) * g
    actual, _ = run(SGD(0.01, l1=l1, l2=l2, rate=rate), params, all_grads)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", CASES, ids=str)
def test_float32(optimizer):
    params, all_grads = problem(np.float32)
    actual, slots = run(optimizer, params, all_grads)
    assert {actual.dtype, *(slot.dtype for slot in slots.values())} == {np.dtype(np.float32)}
    np.testing.assert_allclose(actual, run_torch(optimizer, params, all_grads), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_globs_that_say_what_a_number_says_give_its_bits(dtype):
    params, all_grads = problem(dtype)
    weights = {"*.weight": 0.1}
    for number, globs in (
        (SGD(0.1, momentum=0.9, l1=0.1, l2=0.1), SGD(0.1, momentum=0.9, l1=weights, l2=weights, rate={"*": 1})),
        (AdamW(0.1, weight_decay=0.1), AdamW(0.1, weight_decay=weights, l1={}, l2={"*": 0})),
    ):
        (expected, expected_slots), (actual, slots) = (run(each, params, all_grads) for each in (number, globs))
        np.testing.assert_array_equal(actual, expected)
        for name in slots:
            np.testing.assert_array_equal(slots[name], expected_slots[name])


FROZEN = [("conv1.weight",), ("head.bias",), ("conv2.weight", "head.weight"), ("conv1.bias", "head.bias"), tuple(SIZES)]
UNSPARING = [
    SGD(0.1, l1=0.1),
    SGD(0.1, momentum=0.9, l2=0.1),
    Adam(0.1, l2={"*": 0.1}, clip_value=0.5),
    AdamW(0.1, weight_decay={"*": 0.5}, rate={"*": 2}),
    RMSprop(0.1, l2=0.1),
    RMSprop(0.1, momentum=0.9, centered=True, l1={"*": 0.1}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("frozen", FROZEN, ids=str)
@pytest.mark.parametrize("optimizer", UNSPARING, ids=str)
def test_frozen_runs_are_left_alone_and_change_no_other(optimizer, frozen, dtype):
    params, all_grads = problem(dtype)
    runs = ParameterRuns(each._replace(frozen=each.name in frozen) for each in RUNS)
    trained = np.ones(SIZE, bool)
    for each in runs:
        trained[each.run] = not each.frozen
    expected, expected_slots = run(optimizer, params, all_grads)

    all_grads[:, ~trained] = np.resize([np.nan, np.inf, 1e30], (~trained).sum())
    actual, slots = params.copy(), optimizer.slots(params)
    for each in slots.values():
        each[~trained] = np.random.default_rng(5).standard_normal((~trained).sum())
        each[~trained][:1] = np.nan
    before = {name: slot.copy() for name, slot in slots.items()}
    for step, grads in enumerate(all_grads):
        optimizer.update(actual, grads, slots, step, runs)
    np.testing.assert_array_equal(actual[~trained], params[~trained])
    np.testing.assert_array_equal(actual[trained], expected[trained])
    for name, slot in slots.items():
        np.testing.assert_array_equal(slot[~trained], before[name][~trained])
        np.testing.assert_array_equal(slot[trained], expected_slots[name][trained])


def test_gradients_of_frozen_runs_are_not_in_the_norm():
    params, all_grads = problem()
    runs = ParameterRuns(each._replace(frozen=each.name.startswith("conv")) for each in RUNS)
    trained = np.ones(SIZE, bool)
    for each in runs:
        trained[each.run] = not each.frozen
    spoiled = np.where(trained, all_grads, np.nan)
    zeroed = np.where(trained, all_grads, 0.0)
    optimizer = SGD(0.1, clip_norm=0.5)
    np.testing.assert_allclose(
        run(optimizer, params, spoiled, runs)[0], run(optimizer, params, zeroed)[0], rtol=1e-12, atol=1e-12
    )


def test_thawing_is_seen():
    params, all_grads = problem()
    optimizer = SGD(0.1)
    params_before = params.copy()
    optimizer.update(params, all_grads[0], {}, 0, ParameterRuns(each._replace(frozen=True) for each in RUNS))
    np.testing.assert_array_equal(params, params_before)
    optimizer.update(params, all_grads[0], {}, 1, RUNS)
    assert (params != params_before).all()


def test_names_are_needed_for_globs_alone():
    params, all_grads = problem()
    pairs = tuple((each.run, each.penalized) for each in RUNS)
    plain = SGD(0.1, l2=0.1)
    np.testing.assert_array_equal(run(plain, params, all_grads, pairs)[0], run(plain, params, all_grads)[0])
    with pytest.raises(ValueError, match="l2: expected globs of parameters"):
        run(SGD(0.1, l2={"*": 0.1}), params, all_grads, pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"l1": {"*.gama": 1.0}},
            r"l1: expected globs of parameters \(dense.weight, .*bn.gamma.*\), got '\*.gama', which",
        ),
        ({"l2": {"*": 1.0, "conv1.*": 0.0}}, r"l2: .*'conv1.\*', which matches none"),
        ({"rate": {"head": 10}}, r"rate: .*'head', which"),
        ({"weight_decay": {"Head.*": 0.1}}, r"weight_decay: .*'Head.\*', which"),
    ],
)
def test_a_trainer_refuses_globs_that_match_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        small_trainer.make_trainer(optimizer=AdamW(1e-3, **options))


def test_a_trainer_follows_globs():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 6)).astype("f4"), rng.integers(0, 3, 8)
    trainer = small_trainer.make_trainer(
        optimizer=AdamW(1e-3, weight_decay={"bn.*": 0.5}, rate={"*": 0, "head.bias": 1})
    )
    before = {name: each.copy() for name, each in trainer.model.params.items()}
    for _ in range(3):
        trainer.step(x, y)
    changed = {name for name, each in trainer.model.params.items() if (each != before[name]).any()}
    assert changed == {"head.bias"}
