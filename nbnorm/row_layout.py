"""How the arrays of a norm of rows lie in memory: from what the caller passes to the views that kernels take.

A layout has two orders of axes: that of memory, which results share with x, and that of the kernels. Where they are the
same, nothing is copied.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_float, expect_integer, expect_shape, mismatch
from nbnorm.kernels.rows.turn import turn
from nbnorm.layout import as_array, empty, plain, takes

__all__ = [
    "RowLayout", "axes_of", "expect_several", "layout_of_axes", "layout_of_channels", "layout_of_filters",
    "matrices_of", "moved_axes",
]  # fmt: skip

Order = tuple[int, ...]


class RowLayout(NamedTuple):
    """What a norm of rows knows of its arrays; an order of None is the one in which the axes are given."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    memory: Order | None  #: the axes of x as they lie in memory
    order: Order | None  #: the axes as the kernels take them
    view: tuple[int, int, int]  #: the kernels' shape
    own: tuple[int, ...]  #: the shape of gamma and beta
    own_order: Order | None  #: their axes as the kernels take them
    rows: tuple[int, ...]  #: the shape of the statistics
    rows_order: Order | None  #: their axes as the kernels take them
    groups: int = 1  #: rows of a sample, which have parameters of their own

    def read(self, name: str, value: Any) -> Array:
        """The kernels' view of an input like x; a copy if it lies differently in memory."""
        if self.order is None and takes(value, self.shape, self.dtype):
            return value.reshape(self.view)  # type: ignore[no-any-return]
        array = as_array(name, value)
        expect_shape(name, array.shape, self.shape)
        expect_float(name, array, self.dtype)
        return self.flat(array)

    def flat(self, array: Array) -> Array:
        moved = moved_axes(array, self.order)
        parts = None if moved.flags.carray else matrices_of(moved)
        if parts is None:
            return plain(moved).reshape(self.view)
        result = np.empty(self.view, self.dtype)
        number, rows, columns = parts.shape
        turn.for_work(array.size)(plain(parts), result.reshape(number, columns, rows))
        return result

    def new(self) -> Array:
        """A new array that lies in memory as x does."""
        if self.memory is None:
            return empty(self.shape, self.dtype)
        return moved_axes(empty(tuple(self.shape[axis] for axis in self.memory), self.dtype), _inverse(self.memory))

    def vector(self, name: str, value: Any) -> Array:
        """The kernels' view of gamma, beta or the like, in one row."""
        if self.own_order is None and takes(value, self.own, self.dtype):
            return value.reshape(-1)  # type: ignore[no-any-return]
        array = as_array(name, value)
        expect_shape(name, array.shape, self.own)
        expect_float(name, array, self.dtype)
        return plain(moved_axes(array, self.own_order)).reshape(-1)

    def filled(self, value: float) -> Array:
        """What stands for a parameter that is not given; not to be written into."""
        return _filled(value, math.prod(self.own), self.dtype)

    def statistic(self, flat: Array) -> Array:
        """What the kernels wrote for each row, as it is returned."""
        if self.rows_order is None:
            return flat.reshape(self.rows)
        return moved_axes(flat.reshape([self.rows[axis] for axis in self.rows_order]), _inverse(self.rows_order))

    def read_statistic(self, name: str, value: Any) -> Array:
        """The kernels' view of a statistic, float64 for each row."""
        array = as_array(name, value)
        expect_shape(name, array.shape, self.rows)
        expect_float(name, array, FLOATS[1])
        return plain(moved_axes(array, self.rows_order)).reshape(-1)


def moved_axes(array: Array, order: Order | None) -> Array:
    """The array with its axes in this order; None is the one that they have."""
    return array if order is None else array.transpose(order)


# Elements from which on a copy is worth a kernel of its own.
TURNED_FROM = 4096


def matrices_of(array: Array) -> Array | None:
    """An array whose last axes have changed places with those before them in memory, as the matrices that are there.

    None where it is another one, or a small one. (N, C, H, W) with the channels last in memory gives (N, H * W, C).
    """
    memory = _memory_of(array) if array.size >= TURNED_FROM else None
    if memory is None:
        return None
    ndim = len(memory)
    a = next(axis for axis in range(ndim) if memory[axis] != axis)
    b = memory[a]
    if memory[a:] != (*range(b, ndim), *range(a, b)):
        return None
    shape = array.shape
    return array.transpose(memory).reshape(math.prod(shape[:a]), math.prod(shape[b:]), math.prod(shape[a:b]))


@lru_cache(maxsize=1024)
def _inverse(order: Order) -> Order:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


@lru_cache(maxsize=32)
def _filled(value: float, size: int, dtype: np.dtype[Any]) -> Array:
    return np.full(size, value, dtype)


def axes_of(axes: Any, ndim: int) -> tuple[int, ...]:
    """Check axes, counted from either end, and return them in order, counted from the first."""
    given = tuple(axes) if isinstance(axes, Sequence) and not isinstance(axes, str) else (axes,)
    numbers = [expect_integer("axes", axis, -ndim, ndim - 1) for axis in given]
    counted = tuple(sorted({axis % ndim for axis in numbers}))
    if not counted or len(counted) != len(numbers):
        raise ValueError(mismatch("axes", f"one or more different axes of {ndim}", repr(axes)))
    return counted


def layout_of_axes(name: str, array: Array, axes: Any) -> RowLayout:
    """The layout where the elements of a row are those along some axes, each with parameters of its own."""
    expect_float(name, array)
    if array.ndim == 0:
        raise ValueError(mismatch(name, "at least one axis", "none"))
    return _layout_of_axes(array.shape, FLOATS[array.itemsize // 8], axes_of(axes, array.ndim), _memory_of(array))


def _memory_of(array: Array) -> Order | None:
    """The order in which the axes lie in memory without gaps; None where it is theirs, or where there is none."""
    if array.flags.c_contiguous:
        return None
    order = tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    return order if array.transpose(order).flags.c_contiguous else None


@lru_cache(maxsize=1024)
def _layout_of_axes(
    shape: tuple[int, ...], dtype: np.dtype[Any], axes: tuple[int, ...], memory: Order | None
) -> RowLayout:
    ways = range(len(shape)) if memory is None else memory
    outer, inner = [axis for axis in ways if axis not in axes], [axis for axis in ways if axis in axes]
    order = tuple(outer + inner)
    rows = [axis for axis in range(len(shape)) if axis not in axes]
    length = math.prod(shape[axis] for axis in inner)
    return RowLayout(
        shape, dtype, memory, _none_if_sorted(order), (math.prod(shape[axis] for axis in outer), length, 1),
        tuple(shape[axis] for axis in axes), _none_if_sorted(tuple(axes.index(axis) for axis in inner)),
        tuple(shape[axis] for axis in rows), _none_if_sorted(tuple(rows.index(axis) for axis in outer)),
    )  # fmt: skip


def _none_if_sorted(order: Order) -> Order | None:
    return None if list(order) == sorted(order) else order


def layout_of_channels(name: str, array: Array, groups: Any = None) -> RowLayout:
    """The layout where a row has the channels of a group of (N, C, *spatial), each with parameters of its own.

    Groups of one channel by default. Arrays whose channels are the last axis in memory are copied.
    """
    expect_float(name, array)
    if array.ndim < 2:
        raise ValueError(mismatch(name, "shape (N, C, *spatial)", array.shape))
    channels = array.shape[1]
    if groups is not None:
        groups = expect_integer("groups", groups)
        if channels % groups:
            raise ValueError(mismatch("groups", f"a divisor of the {channels} channels of {name}", groups))
    return _layout_of_channels(array.shape, FLOATS[array.itemsize // 8], groups, _memory_of(array))


@lru_cache(maxsize=1024)
def _layout_of_channels(
    shape: tuple[int, ...], dtype: np.dtype[Any], groups: int | None, memory: Order | None
) -> RowLayout:
    order = None
    if memory is not None and memory[:2] == (0, 1):
        order = memory  # the spatial axes change places: statistics do not mind
    channels = shape[1]
    number = channels if groups is None else groups
    view = (shape[0] * number, channels // max(number, 1), math.prod(shape[2:]))
    return RowLayout(shape, dtype, memory, order, view, (channels,), None, (shape[0], number), None, number)


def expect_several(name: str, array: Array) -> None:
    """Raise ValueError where a channel of a sample of (N, C, *spatial) has one value alone."""
    if math.prod(array.shape[2:]) < 2:
        raise ValueError(mismatch(name, "at least 2 values in a channel of a sample", f"shape {array.shape}"))


def layout_of_filters(name: str, array: Array) -> RowLayout:
    """The layout where a row is a filter of (out, ...), with parameters of its own."""
    expect_float(name, array)
    if array.ndim < 2:
        raise ValueError(mismatch(name, "shape (out, in, ...)", array.shape))
    return _layout_of_filters(array.shape, FLOATS[array.itemsize // 8], _memory_of(array))


@lru_cache(maxsize=1024)
def _layout_of_filters(shape: tuple[int, ...], dtype: np.dtype[Any], memory: Order | None) -> RowLayout:
    order = memory if memory is not None and memory[0] == 0 else None
    view = (shape[0], 1, math.prod(shape[1:]))
    return RowLayout(shape, dtype, memory, order, view, shape[:1], None, shape[:1], None, shape[0])
