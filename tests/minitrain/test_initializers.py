"""Moments, reproducibility, JSON round trip and errors of the initializers."""

import dataclasses
import json
import math

import numpy as np
import pytest

from minitrain import initializers
from minitrain.initializers import INITIALIZERS, Constant, Glorot, He, Initializer, LeCun, Normal, Uniform

SHAPE, FAN_IN, FAN_OUT = (400, 300), 300, 400

STDS = [
    (He(), math.sqrt(2 / FAN_IN)),
    (He("uniform", scale=0.5), 0.5 * math.sqrt(2 / FAN_IN)),
    (He("uniform", negative_slope=math.sqrt(5)), math.sqrt(1 / (3 * FAN_IN))),
    (Glorot(), math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (Glorot("normal"), math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (LeCun(), math.sqrt(1 / FAN_IN)),
    (LeCun("uniform", scale=3), 3 * math.sqrt(1 / FAN_IN)),
    (Normal(), 0.01),
    (Uniform(-0.3, 0.3), 0.3 / math.sqrt(3)),
]


def draw(initializer, seed=0):
    return initializer(np.random.default_rng(seed), SHAPE, FAN_IN, FAN_OUT)


@pytest.mark.parametrize(("initializer", "std"), STDS, ids=str)
def test_moments(initializer, std):
    values = draw(initializer)
    assert values.shape == SHAPE
    assert values.dtype == np.float64
    assert values.std() == pytest.approx(std, rel=0.01)
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size)
    distribution = getattr(initializer, "distribution", "uniform" if isinstance(initializer, Uniform) else "normal")
    if distribution == "uniform":
        assert np.abs(values).max() <= math.sqrt(3) * std * (1 + 1e-12)
    else:
        assert np.abs(values).max() > 3 * std


def test_seed_gives_bits():
    np.testing.assert_array_equal(draw(He(), seed=3), draw(He(), seed=3))
    assert not np.array_equal(draw(He(), seed=3), draw(He(), seed=4))


def test_constant_and_moved_means():
    np.testing.assert_array_equal(draw(Constant(1)), np.ones(SHAPE))
    assert draw(Normal(std=0.1, mean=2.0)).mean() == pytest.approx(2.0, abs=0.01)
    values = draw(Uniform(1, 3))
    assert values.min() >= 1
    assert values.max() < 3


@pytest.mark.parametrize("name", INITIALIZERS)
def test_survives_json(name):
    initializer = INITIALIZERS[name]()
    fields = json.loads(json.dumps(dataclasses.asdict(initializer)))
    assert INITIALIZERS[name](**fields) == initializer


def test_table_has_every_public_class():
    public = {n for n in initializers.__all__ if isinstance(getattr(initializers, n), type)} - {"Initializer"}
    assert set(INITIALIZERS) == public


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: He("gaussian"), ValueError, "distribution: expected 'normal' or 'uniform', got 'gaussian'"),
        (lambda: He(scale=-1), ValueError, "scale: expected a finite number >= 0, got -1"),
        (lambda: Normal(std=float("nan")), ValueError, "std: expected a finite number"),
        (lambda: Normal(std="1"), TypeError, "std: expected a number"),
        (lambda: Constant(True), TypeError, "value: expected a number"),
        (lambda: Uniform(1, 0), ValueError, "high: expected at least low"),
        (lambda: He()(np.random.default_rng(0), (2,), 0, 1), ValueError, "fan_in: expected a positive count"),
        (lambda: Glorot()(np.random.default_rng(0), (2,), 0, 0), ValueError, "fan_in"),
        (lambda: draw(Initializer()), TypeError, "draws no values"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
