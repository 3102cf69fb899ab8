"""What metrics and losses of users get of ours, and what they give back."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["as_number", "lent", "read_only"]


def lent(array: Array) -> Array:
    """Return a copy that cannot be written: whoever keeps it has it as it was, and several may share it."""
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def read_only(given: Any) -> Any:
    """Return a view of an array that cannot be written, and anything else as it is."""
    if not isinstance(given, np.ndarray):
        return given
    view = given[...]
    view.flags.writeable = False
    return view


def as_number(label: str, value: Any) -> float:
    """Return what a loss or a metric returned as a float; NaN and infinity are numbers, too.

    Raises
    ------
    TypeError
        It is no number; `label` names whose it is.
    """
    if type(value) is float:
        return value
    try:
        if isinstance(value, str) or np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(mismatch(label, "one number, the mean over the batch", _described(value))) from None


def _described(value: Any) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    return repr(value) if value is None or isinstance(value, str) else f"{kind} of shape {shape}" if shape else kind
