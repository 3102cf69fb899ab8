"""Checks of arguments: errors that name the argument, what was expected and what came. For nbnorm and minitrain.

Checks of single values return them as plain Python ones, so that whoever keeps them can write them as JSON: NumPy's
numbers and truth values of any width, also in arrays without an axis, are as good as Python's. A bool is no number, and
2.0 is no integer. What is of the wrong kind is a TypeError, a value that is out of bounds a ValueError.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "FLOATS",
    "HalfPrecision",
    "expect_boolean",
    "expect_float",
    "expect_integer",
    "expect_number",
    "expect_one_of",
    "expect_pair",
    "expect_shape",
    "expect_writable",
    "is_half",
    "mismatch",
    "set_checked",
]  # fmt: skip

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
Choice = TypeVar("Choice")


def mismatch(name: str, expected: object, got: object) -> str:
    """The one form of all messages: ``gamma: expected shape (64,), got (32,)``."""
    return f"{name}: expected {expected}, got {got}"


def expect_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the two shapes are equal."""
    if tuple(shape) != tuple(expected):
        raise ValueError(mismatch(name, f"shape {tuple(expected)}", tuple(shape)))


class HalfPrecision(TypeError):
    """An array is float16 or bfloat16: an error where nobody computes with these."""


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether this is NumPy's float16, or the bfloat16 of ml_dtypes."""
    return dtype.itemsize == 2 and (dtype == np.float16 or dtype.name == "bfloat16")


def expect_float(name: str, array: Any, dtype: np.dtype[Any] | None = None) -> None:
    """Raise TypeError unless `array` holds native float32 or float64 values, or exactly `dtype` where it is given."""
    if dtype is not None and array.dtype != dtype:
        raise TypeError(mismatch(name, f"dtype {dtype}", array.dtype))
    if array.dtype not in FLOATS:
        error = HalfPrecision if is_half(array.dtype) else TypeError
        raise error(mismatch(name, "dtype float32 or float64", array.dtype))


def expect_writable(name: str, array: Any) -> None:
    """Raise ValueError if `array` cannot be written into."""
    if not array.flags.writeable:
        raise ValueError(mismatch(name, "a writable array", "a read-only one"))


def expect_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return a finite number between `low` and `high` as a float; `open_low` and `open_high` leave these out."""
    if type(value) is not float:  # the usual case: to ask for an abstract class takes longer than a small kernel
        value = _without_axis(value)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(mismatch(name, "a number", repr(value)))
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    inside = (low < number if open_low else low <= number) and (number < high if open_high else number <= high)
    if not (inside and math.isfinite(number)):
        bounds = [f"{'>' if open_low else '>='} {low:g}"] * math.isfinite(low)
        bounds += [f"{'<' if open_high else '<='} {high:g}"] * math.isfinite(high)
        raise ValueError(mismatch(name, " ".join(["a finite number", " and ".join(bounds)]).strip(), repr(value)))
    return number


def expect_integer(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return an integer of at least `low` and, where that is given, at most `high` as an int."""
    if type(value) is int:  # the usual case
        integer = value
    else:
        value = _without_axis(value)
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(mismatch(name, "an integer", repr(value)))
        integer = int(value)
    if integer < low or (high is not None and integer > high):
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        raise ValueError(mismatch(name, f"an integer {bounds}", integer))
    return integer


def expect_pair(name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return an integer, or a pair of integers, as (rows, columns); each of at least `low`."""
    if not isinstance(value, tuple | list) and not (isinstance(value, np.ndarray) and value.ndim):
        both = expect_integer(name, value, low)
        return both, both
    if len(value) != 2:
        raise ValueError(mismatch(name, "an integer or a pair (rows, columns)", repr(value)))
    return expect_integer(name, value[0], low), expect_integer(name, value[1], low)


def expect_boolean(name: str, value: Any) -> bool:
    """Return True or False."""
    value = _without_axis(value)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(mismatch(name, "True or False", repr(value)))
    return bool(value)


def expect_one_of(name: str, value: Any, choices: Sequence[Choice]) -> Choice:
    """Return the one of `choices` that this is; they are strings, or None."""
    for choice in choices:
        if value is choice or (isinstance(value, str) and value == choice):
            return choice
    *others, last = map(repr, choices)
    raise ValueError(mismatch(name, f"{', '.join(others)} or {last}" if others else last, repr(value)))


def _without_axis(value: Any) -> Any:
    """Return the scalar in an array that has no axis; everything else as it is."""
    return value[()] if isinstance(value, np.ndarray) and not value.ndim else value


def set_checked(instance: Any, **values: Any) -> None:
    """Put checked values into the fields of a frozen dataclass; to be called from its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
