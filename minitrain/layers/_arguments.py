"""Checks of layer arguments: errors name the argument, what was expected and what came."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from minitrain.initializers import Initializer

Pair = tuple[int, int]


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name}: expected an integer >= {minimum}, got {value}")
    return int(value)


def pair(name: str, value: Any, minimum: int = 1) -> Pair:
    """Return an integer or a pair of integers as (rows, columns)."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an integer or a pair (rows, columns), got {value!r}")
        return integer(name, value[0], minimum), integer(name, value[1], minimum)
    both = integer(name, value, minimum)
    return both, both


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a finite float in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    checked = float(value)
    if not (math.isfinite(checked) and low <= checked <= high):
        limits = f" in [{low:g}, {high:g}]" if math.isfinite(high) else f" >= {low:g}" if math.isfinite(low) else ""
        raise ValueError(f"{name}: expected a finite number{limits}, got {value!r}")
    return checked


def boolean(name: str, value: Any) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def initializer(name: str, value: Any) -> Initializer:
    """Return `value`, which must be an Initializer."""
    if not isinstance(value, Initializer):
        raise TypeError(f"{name}: expected an initializer such as He() or Constant(0.0), got {value!r}")
    return value


def normalize(layer: Any, **values: Any) -> None:
    """Put checked values into the fields of a frozen dataclass; to be called from `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(layer, name, value)
