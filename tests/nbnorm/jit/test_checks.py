"""Checks of arguments: what passes, as what it comes back, what the errors say."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from nbnorm.jit.checks import (
    expect_boolean,
    expect_integer,
    expect_number,
    expect_one_of,
    expect_pair,
    mismatch,
    set_checked,
)


@pytest.mark.parametrize("value", [1, 1.0, np.int8(1), np.uint64(1), np.float16(1), np.float32(1), np.float64(1)])
def test_numbers_of_any_width_are_numbers(value):
    number = expect_number("rate", value, 0.0)
    assert type(number) is float
    assert number == 1.0


@pytest.mark.parametrize("value", [3, np.int8(3), np.int64(3), np.uint16(3)])
def test_integers_of_any_width_are_integers(value):
    assert type(expect_integer("count", value, 1)) is int
    assert json.dumps(expect_pair("pair", [value, value])) == "[3, 3]"
    assert expect_pair("pair", value) == (3, 3)


@pytest.mark.parametrize("value", [True, np.True_])
def test_truth_values_are_no_numbers(value):
    assert expect_boolean("bias", value) is True
    with pytest.raises(TypeError, match="rate: expected a number, got"):
        expect_number("rate", value)
    with pytest.raises(TypeError, match="count: expected an integer, got"):
        expect_integer("count", value, 0)


@pytest.mark.parametrize("value", [4.0, 4.7, np.float32(4), "4", None, np.array([4])])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="count: expected an integer, got"):
        expect_integer("count", value, 1)
    with pytest.raises(TypeError, match="pair: expected an integer, got"):
        expect_pair("pair", (1, value))


@pytest.mark.parametrize("value", ["1", None, 1j, np.array([1.0]), [1.0]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="rate: expected a number, got"):
        expect_number("rate", value)
    with pytest.raises(TypeError, match="bias: expected True or False, got"):
        expect_boolean("bias", value)


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({}, math.nan, "a finite number"),
        ({}, -math.inf, "a finite number"),
        ({"low": 0}, -1, "a finite number >= 0"),
        ({"low": 0}, math.inf, "a finite number >= 0"),
        ({"low": 0, "open_low": True}, 0, "a finite number > 0"),
        ({"high": 2}, 3, "a finite number <= 2"),
        ({"low": 0, "high": 1}, 1.5, "a finite number >= 0 and <= 1"),
        ({"low": 0, "high": 1, "open_high": True}, 1.0, "a finite number >= 0 and < 1"),
        ({"low": 0, "high": 1, "open_low": True, "open_high": True}, 0.0, "a finite number > 0 and < 1"),
    ],
)
def test_bounds_of_numbers_are_named(bounds, value, expected):
    with pytest.raises(ValueError) as caught:
        expect_number("rate", value, **bounds)
    assert str(caught.value) == f"rate: expected {expected}, got {value!r}"


def test_bounds_that_belong_to_it_pass():
    assert expect_number("p", 0, 0, 1) == 0.0
    assert expect_number("p", 1, 0, 1) == 1.0
    assert expect_number("p", 0, 0, 1, open_high=True) == 0.0
    assert expect_integer("threads", 4, 1, 4) == 4


@pytest.mark.parametrize(("high", "expected"), [(None, ">= 2"), (4, "from 2 to 4")])
def test_bounds_of_integers_are_named(high, expected):
    with pytest.raises(ValueError, match=f"^depth: expected an integer {expected}, got 1$"):
        expect_integer("depth", np.int64(1), 2, high)


def test_pairs_are_two():
    with pytest.raises(ValueError, match=r"stride: expected an integer or a pair \(rows, columns\), got \(1, 2, 3\)"):
        expect_pair("stride", (1, 2, 3))


@pytest.mark.parametrize(
    ("choices", "expected"),
    [(("max",), "'max'"), (("min", "max"), "'min' or 'max'"), (("before", "after", None), "'before', 'after' or None")],
)
def test_choices_are_named(choices, expected):
    assert [expect_one_of("mode", choice, choices) for choice in choices] == list(choices)
    for value in ("both", 1, np.zeros(2)):
        with pytest.raises(ValueError) as caught:
            expect_one_of("mode", value, choices)
        assert str(caught.value) == mismatch("mode", expected, repr(value))


def test_fields_of_a_frozen_dataclass_are_set():
    @dataclass(frozen=True)
    class Settings:
        rate: float

        def __post_init__(self):
            set_checked(self, rate=expect_number("rate", self.rate))

    assert json.dumps(vars(Settings(np.float32(0.5)))) == '{"rate": 0.5}'
