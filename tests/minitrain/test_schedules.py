"""Schedules against torch.optim.lr_scheduler, at their edges, and on bad arguments."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.schedules import Constant, Cosine, LinearWarmup, OneCycle, Schedule, Step


def torch_rates(make, rate, steps):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], rate)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


def rates(schedule, steps):
    return [schedule(step) for step in range(steps)]


exact = settings(max_examples=40, deadline=None, derandomize=True)


@exact
@given(st.floats(0.01, 10), st.integers(1, 60), st.floats(0.05, 1), st.sampled_from([4.0, 25.0]), st.floats(2, 1e4))
def test_one_cycle(peak, total, warmup, start_divisor, end_divisor):
    if abs(warmup * total - 1) < 1e-9:
        warmup = 0.5  # PyTorch divides by zero there
    actual = OneCycle(peak, total, warmup, start_divisor, end_divisor)

    def make(schedulers, optimizer):
        return schedulers.OneCycleLR(
            optimizer, peak, total, pct_start=warmup, div_factor=start_divisor, final_div_factor=end_divisor
        )

    if warmup * total > 1 and warmup < 1:
        assert rates(actual, total) == pytest.approx(torch_rates(make, peak, total), rel=1e-12, abs=1e-15)
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates(actual, total + 3))


def test_one_cycle_edges():
    assert OneCycle(1.0, 10, warmup=0)(9) == pytest.approx(1 / 25 / 1e4)
    assert OneCycle(1.0, 10, warmup=0.1)(0) == 1.0
    assert OneCycle(1.0, 10, warmup=1)(9) == 1.0
    assert OneCycle(1.0, 1)(0) > 0
    assert OneCycle(1.0, 10)(10) == OneCycle(1.0, 10)(1000) == pytest.approx(1 / 25 / 1e4)


@exact
@given(st.floats(0.01, 10), st.integers(1, 60), st.floats(0, 0.01))
def test_cosine(start, total, end):
    schedule = Cosine(start, total, end)
    expected = torch_rates(lambda s, o: s.CosineAnnealingLR(o, total, end), start, total + 1)
    assert rates(schedule, total + 1) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert schedule(total + 5) == schedule(total) == pytest.approx(end, abs=1e-15)


def test_step():
    expected = torch_rates(lambda s, o: s.StepLR(o, 7, 0.3), 0.5, 30)
    assert rates(Step(0.5, every=7, factor=0.3), 30) == pytest.approx(expected, rel=1e-12)
    expected = torch_rates(lambda s, o: s.MultiStepLR(o, [5, 20], 0.1), 0.5, 30)
    assert rates(Step(0.5, milestones=(5, 20)), 30) == pytest.approx(expected, rel=1e-12)
    assert Step(0.5, milestones=[5, 20]) == Step(0.5, milestones=(5, 20))


def test_linear_warmup():
    assert rates(LinearWarmup(4, then=2.0), 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = Cosine(1.0, 10)
    assert rates(LinearWarmup(2, then=cosine), 13)[2:] == rates(cosine, 11)
    nested = LinearWarmup(1, then=LinearWarmup(2, then=1.0))
    assert rates(nested, 4) == [0.5, 0.5, 1.0, 1.0]


def test_constant_and_config():
    assert rates(Constant(0.25), 3) == [0.25] * 3
    assert LinearWarmup(2, Step(1.0, milestones=(3, 4))).config() == {
        "class": "LinearWarmup",
        "steps": 2,
        "then": {"class": "Step", "start": 1.0, "every": None, "milestones": [3, 4], "factor": 0.1},
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(-1), ValueError, "value: expected a finite number >= 0, got -1"),
        (lambda: Constant("a"), TypeError, "value: expected a number"),
        (lambda: Step(0.1), ValueError, "every, milestones: expected one of the two"),
        (lambda: Step(0.1, every=2, milestones=(3,)), ValueError, "every, milestones: expected one of the two"),
        (lambda: Step(0.1, every=0), ValueError, "every: expected an integer >= 1, got 0"),
        (lambda: Step(0.1, milestones=(5, 5)), ValueError, "milestones: expected increasing steps"),
        (lambda: Cosine(0.1, 10.0), TypeError, "total_steps: expected an integer, got 10.0"),
        (lambda: Cosine(float("inf"), 10), ValueError, "start: expected a finite number"),
        (lambda: LinearWarmup(0, 0.1), ValueError, "steps: expected an integer >= 1, got 0"),
        (lambda: LinearWarmup(1, "fast"), TypeError, "then: expected a number"),
        (lambda: OneCycle(0.1, 10, warmup=1.5), ValueError, "warmup: expected a finite number >= 0 and <= 1, got 1.5"),
        (lambda: OneCycle(0.1, 10, start_divisor=0), ValueError, "start_divisor: expected a finite number > 0"),
        (lambda: Schedule()(0), TypeError, "has no rate"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
