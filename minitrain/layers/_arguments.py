"""The checks of arguments that only layers have; `nbnorm.jit.checks` has all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minitrain.initializers import Initializer
from minitrain.layer import Layer, Shape, describe
from nbnorm.jit.checks import expect_integer, mismatch

MOST_AXES = 32  # of an array


def initializer(name: str, value: Any) -> Initializer:
    """Return `value`, which must be an Initializer."""
    if not isinstance(value, Initializer):
        raise TypeError(mismatch(name, "an initializer such as He() or Constant(0.0)", repr(value)))
    return value


def checked_axes(value: Any) -> tuple[int, ...]:
    """Return axes of an array, batch axis included, as a tuple of different integers, none of them the batch axis."""
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    axes = tuple(expect_integer("axes", axis, -MOST_AXES, MOST_AXES) for axis in given)
    if not axes or len(set(axes)) < len(axes) or 0 in axes:
        raise ValueError(
            mismatch("axes", "one or more different axes, counted from either end, without 0", repr(value))
        )
    return axes


def axes_within(layer: Layer, axes: Any, shape: Shape) -> tuple[int, ...]:
    """Return axes in increasing order, counted from the first, of an input of this shape."""
    counted = {axis + len(shape) if axis < 0 else axis for axis in axes}
    if len(counted) < len(axes) or not all(0 < axis < len(shape) for axis in counted):
        name = type(layer).__name__
        raise ValueError(f"{name}: expected axes of {describe(shape)} other than the batch, got axes={axes}")
    return tuple(sorted(counted))


def expect_several_pixels(layer: Layer, shape: Shape) -> None:
    """Raise ValueError unless the shape is (N, C, *spatial) with two values or more in a channel of a sample."""
    if len(shape) < 3 or math.prod(shape[2:]) < 2:
        raise ValueError(
            f"{type(layer).__name__}: expected an input of shape (N, C, *spatial) with two values or more in each "
            f"channel of a sample, got {describe(shape)}"
        )
