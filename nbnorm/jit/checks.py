"""Errors that name the argument, what was expected and what came. Shared by nbnorm and minitrain."""

from typing import Any

import numpy as np

__all__ = ["FLOATS", "expect_float", "expect_number", "expect_one_of", "expect_shape", "expect_writable", "mismatch"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def mismatch(name: str, expected: object, got: object) -> str:
    """The one form of all messages: ``gamma: expected shape (64,), got (32,)``."""
    return f"{name}: expected {expected}, got {got}"


def expect_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the two shapes are equal."""
    if tuple(shape) != tuple(expected):
        raise ValueError(mismatch(name, f"shape {tuple(expected)}", tuple(shape)))


def expect_float(name: str, array: Any, dtype: np.dtype[Any] | None = None) -> None:
    """Raise TypeError unless `array` holds native float32 or float64 values, or exactly `dtype` where it is given."""
    if dtype is not None and array.dtype != dtype:
        raise TypeError(mismatch(name, f"dtype {dtype}", array.dtype))
    if array.dtype not in FLOATS:
        raise TypeError(mismatch(name, "dtype float32 or float64", array.dtype))


def expect_writable(name: str, array: Any) -> None:
    """Raise ValueError if `array` cannot be written into."""
    if not array.flags.writeable:
        raise ValueError(mismatch(name, "a writable array", "a read-only one"))


def expect_number(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """Return `value` as a float; raise TypeError unless it is a real number, ValueError unless it is in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(mismatch(name, "a number", type(value).__name__))
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ValueError(mismatch(name, f"a number {bounds}", value))
    return float(value)


def expect_one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(mismatch(name, " or ".join(map(repr, choices)), repr(value)))
