"""float16 and bfloat16 arrays: computed in float32, block by block, so that memory moves half as many bytes.

A block of channels (of batch norm) or of samples (of the norms of rows) is widened into the nearest caches, computed
there as any float32 array is, and rounded once on its way back. Statistics, parameters and their gradients are float32
and float64, as ever. What a block is does not depend on threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_shape, expect_writable, mismatch
from nbnorm.kernels.halves import narrow, widen
from nbnorm.layout import MovedVector, as_array, expect_apart, plain

__all__ = [
    "backward_by_channels",
    "backward_by_samples",
    "epsilon_of",
    "forward_by_channels",
    "forward_by_samples",
    "joined",
]

FLOAT32, UINT16 = np.dtype(np.float32), np.dtype(np.uint16)
# Elements of a block, 2 MB in float32. Less pays more for the calls and barriers of three kernels, more leaves the
# caches: bfloat16 batch norm forward at 32x64x56x56 takes 7.0, 8.1, 4.5, 6.1 ms with 2^15, 2^17, 2^19, 2^21 (2 cores of
# an EPYC, 2026-11; float32 3.4).
BLOCK = 1 << 19
# Channels of a block where they are the last axis in memory: whole cache lines of each position.
LINE = 64


def epsilon_of(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next number of a half type."""
    return 2.0**-10 if dtype.kind == "f" else 2.0**-7


class Memory(NamedTuple):
    """How a half array lies: (a, b, d) in the order of memory, cut along b, and the axes in that order."""

    a: int
    b: int
    d: int
    order: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_bfloat(self) -> bool:
        return self.dtype.kind != "f"

    def blocks(self) -> list[slice]:
        """Return how b is cut."""
        size = max(BLOCK // max(self.a * self.d, 1), LINE if self.d == 1 and self.a > 1 else 1)
        return [slice(k, min(k + size, self.b)) for k in range(0, self.b, size)] or [slice(0, 0)]

    def bits(self, name: str, value: Any) -> Array:
        """Return an array like x in one row of integers; a copy if it lies differently in memory."""
        array = as_array(name, value)
        expect_shape(name, array.shape, self.shape)
        if array.dtype != self.dtype:
            raise TypeError(mismatch(name, f"dtype {self.dtype}", array.dtype))
        return plain(np.ascontiguousarray(array.transpose(self.order)).view(UINT16)).reshape(-1)

    def room(self, blocks: Sequence[slice], *bits: Array | None) -> list[Array | None]:
        """Return memory for the largest block of each of these, used again and again: new memory is slow at first."""
        size = self.a * self.d * max(block.stop - block.start for block in blocks)
        return [None if each is None else np.empty(size, np.float32) for each in bits]

    def widened(self, bits: Array | None, block: slice, room: Array | None) -> Array | None:
        """Return a block in float32, (a, channels of the block, d) in the order of memory; (a, channels) for d = 1."""
        if bits is None or room is None:
            return None
        count = block.stop - block.start
        values = room[: self.a * count * self.d].reshape(self.a, count * self.d)
        widen.for_work(values.size)(bits, (block.start * self.d, self.b * self.d), self.is_bfloat, values)
        return values.reshape((self.a, count) if self.d == 1 else (self.a, count, self.d))

    def write(self, values: Array, block: slice, bits: Array) -> None:
        """Round a block into a result's row of integers."""
        flat = np.ascontiguousarray(values).reshape(self.a, (block.stop - block.start) * self.d)
        narrow.for_work(flat.size)(flat, (block.start * self.d, self.b * self.d), self.is_bfloat, bits)


def _of_channels(x: Array) -> Memory:
    """Return how x (N, C, *spatial) lies: with its channels last, or else in order."""
    if x.ndim < 2:
        raise ValueError(mismatch("x", "shape (N, C, *spatial)", x.shape))
    n, c, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    order = (0, *range(2, x.ndim), 1)
    if length > 1 and not x.flags.c_contiguous and x.transpose(order).flags.c_contiguous:
        return Memory(n * length, c, 1, order, x.shape, x.dtype)
    return Memory(n, c, length, tuple(range(x.ndim)), x.shape, x.dtype)


def _of_samples(x: Array) -> Memory:
    return Memory(1, x.shape[0], math.prod(x.shape[1:]), tuple(range(x.ndim)), x.shape, x.dtype)


class Result:
    """An array that a call writes: the caller's or a new one, as its row of integers until `done`."""

    def __init__(self, name: str, memory: Memory, given: Any, read: Sequence[Any]) -> None:
        self.bits: Array
        if given is None:
            made = np.empty([memory.shape[axis] for axis in memory.order], memory.dtype)
            self.value: Any = made.transpose(np.argsort(memory.order))
            self.bits, self._target = made.view(UINT16).reshape(-1), None
            return
        self.value, array = given, as_array(name, given)
        expect_shape(name, array.shape, memory.shape)
        if array.dtype != memory.dtype:
            raise TypeError(mismatch(name, f"dtype {memory.dtype}", array.dtype))
        expect_writable(name, array)
        ordered = array.transpose(memory.order)
        others = [as_array(name, each) for each in read if each is not None]
        apart = all(each is array or not np.may_share_memory(array, each) for each in others)
        if ordered.flags.c_contiguous and apart:
            self.bits, self._target = ordered.view(UINT16).reshape(-1), None
        else:
            self.bits = np.empty(array.size, UINT16)
            self._target = array, memory

    def done(self) -> None:
        """Copy what could not be written in place."""
        if self._target is not None:
            array, memory = self._target
            ordered = self.bits.view(memory.dtype).reshape([memory.shape[axis] for axis in memory.order])
            np.copyto(array, ordered.transpose(np.argsort(memory.order)))


def _parameter(name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
    """Check an array of parameters, or of what belongs to them: float32 of this shape."""
    if value is None:
        return None
    array = as_array(name, value)
    expect_shape(name, array.shape, shape)
    if array.dtype != FLOAT32:
        raise TypeError(mismatch(name, "dtype float32 with an x of half precision", array.dtype))
    return array


def _moved(name: str, value: Any, size: int) -> MovedVector | None:
    array = _parameter(name, value, (size,))
    return None if array is None else MovedVector(name, array)


def forward_by_channels(
    call: Callable[..., Any], x: Any, vectors: dict[str, Any], residual: Any, out: Any, settings: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Run batch norm forward, or by running statistics.

    Parameters
    ----------
    call : callable
        ``call(x, residual=, out=, **vectors, **settings)`` of float32.
    vectors : dict
        Values for each channel by name; running statistics are moved in place by `call`.

    Returns
    -------
    y, and what `call` returned beside it for each block
    """
    x = as_array("x", x)
    memory = _of_channels(x)
    bits, added = memory.bits("x", x), None if residual is None else memory.bits("residual", residual)
    checked = {name: _parameter(name, value, (memory.b,)) for name, value in vectors.items()}
    _try_on_nothing(call, memory, checked, settings)
    trains = "momentum" in settings
    moved = {n: _moved(n, v, memory.b) for n, v in checked.items() if trains and n.startswith("running")}
    y = Result("out", memory, out, (x, residual, *vectors.values()))
    found = []
    blocks = memory.blocks()
    room, more_room = memory.room(blocks, bits, added)
    for block in blocks:
        values = memory.widened(bits, block, room)
        parts = {n: None if v is None else v[block] for n, v in checked.items()}
        parts |= {n: v.flat[block] for n, v in moved.items() if v is not None}
        result = call(values, residual=memory.widened(added, block, more_room), out=values, **parts, **settings)
        result, *others = result if isinstance(result, tuple) else (result,)
        memory.write(result, block, y.bits)
        found.append(others[0] if others else None)
    for each in moved.values():
        if each is not None:
            each.done()
    y.done()
    return y.value, found


def _try_on_nothing(
    call: Callable[..., Any], memory: Memory, vectors: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Let `call` check its arguments on one channel that is thrown away: nothing is touched before all are good."""
    shape = (memory.a, 1) if memory.d == 1 else (memory.a, 1, memory.d)
    least = np.zeros(tuple(min(size, 2) for size in shape), np.float32)
    if memory.a * memory.d < 2 and "momentum" in settings:
        expected = "at least 2 values per channel in training"
        raise ValueError(mismatch("x", expected, f"shape {memory.shape}"))
    call(least, **{name: None if v is None else np.ones(1, np.float32) for name, v in vectors.items()}, **settings)


def backward_by_channels(
    call: Callable[..., Any], given: tuple[Any, Any, Any], vectors: dict[str, Any], out: Any, settings: dict[str, Any],
    parts_of: Callable[[Any, Any], tuple[Any, Any, Any, Any]], stats: tuple[Array, Array] | None,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Run the backward pass of batch norm.

    Parameters
    ----------
    call : callable
        ``call(dy, x, stats of the block or None, y=, **vectors, **settings)`` of float32 returns four gradients.
    given : dy, x, y
    parts_of : callable
        Takes `out` and y, and returns the caller's arrays for the four gradients.
    """
    dy, x, y = given
    x = as_array("x", x)
    memory = _of_channels(x)
    bits, upstream = memory.bits("x", x), memory.bits("dy", dy)
    result = None if y is None else memory.bits("y", y)
    checked = {name: _parameter(name, value, (memory.b,)) for name, value in vectors.items()}
    out_dx, out_dgamma, out_dbeta, out_dresidual = parts_of(out, y)
    read = (dy, x, y, *vectors.values())
    dx = Result("out.dx", memory, out_dx, read)
    dresidual = None if y is None else Result("out.dresidual", memory, out_dresidual, (*read, dx.value))
    wanted = {"gamma": out_dgamma, "beta": out_dbeta}
    targets = {name: _moved(f"out.d{name}", value, memory.b) for name, value in wanted.items()}
    sums = {
        name: None if vectors.get(name) is None and value is None else np.empty(memory.b, np.float32)
        for name, value in wanted.items()
    }
    blocks = memory.blocks()
    rooms = memory.room(blocks, upstream, bits, result)
    for block in blocks:
        own = None if stats is None else (stats[0][block], stats[1][block])
        parts = {name: None if value is None else value[block] for name, value in checked.items()}
        g = memory.widened(upstream, block, rooms[0])
        written = (g, *(None if each is None else each[block] for each in sums.values()), None)
        found = call(
            g, memory.widened(bits, block, rooms[1]), own, y=memory.widened(result, block, rooms[2]), out=written,
            **parts, **settings,
        )  # fmt: skip
        memory.write(found[0], block, dx.bits)
        if dresidual is not None:
            memory.write(found[3], block, dresidual.bits)
    dx.done()
    if dresidual is not None:
        dresidual.done()
    gradients = [_vector_result(wanted[name], targets[name], sums[name]) for name in wanted]
    return dx.value, gradients[0], gradients[1], None if dresidual is None else dresidual.value


def _vector_result(given: Any, target: MovedVector | None, found: Array | None) -> Any:
    """Return the gradient of a parameter, in the caller's array where there is one; None where nobody wants it."""
    if target is None:
        return found
    target.flat[...] = found
    target.done()
    return given


def forward_by_samples(
    call: Callable[..., Any], x: Any, residual: Any, out: Any, is_cut: bool
) -> tuple[Any, list[tuple[Array, ...]]]:
    """Run a norm of rows forward.

    Parameters
    ----------
    call : callable
        ``call(x, residual=, out=)`` of float32 returns y and statistics.
    is_cut : bool
        Whether the rows lie within the samples, so that these can be computed in blocks.

    Returns
    -------
    y, and the statistics of each block
    """
    x = as_array("x", x)
    memory = _of_samples(x)
    bits, added = memory.bits("x", x), None if residual is None else memory.bits("residual", residual)
    y, found = Result("out", memory, out, (x, residual)), []
    blocks = memory.blocks() if is_cut else [slice(0, memory.b)]
    room, more_room = memory.room(blocks, bits, added)
    for block in blocks:
        values, own = _shaped(memory, bits, block, room), _shaped(memory, added, block, more_room)
        result, stats = call(values, residual=own, out=values)
        found.append(stats)
        memory.write(result, block, y.bits)
    y.done()
    return y.value, found


def _shaped(memory: Memory, bits: Array | None, block: slice, room: Array | None) -> Array | None:
    values = memory.widened(bits, block, room)
    return None if values is None else values.reshape(block.stop - block.start, *memory.shape[1:])


def joined(found: Sequence[tuple[Array, ...]]) -> list[Array]:
    """Return the statistics of all blocks as those of one array."""
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*found, strict=True)]


def _target(name: str, given: Any, shape: tuple[int, ...]) -> Array | None:
    """Check the caller's array for the gradient of a parameter."""
    array = _parameter(name, given, shape)
    if array is not None:
        expect_writable(name, array)
    return array


def backward_by_samples(
    call: Callable[..., Any], given: tuple[Any, Any, Any], stats: Any, out: tuple[Any, Any, Any, Any],
    own_shape: tuple[int, ...], is_cut: bool,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Run the backward pass of a norm of rows: ``call(dy, x, stats, y=, out=)`` of a block returns four gradients.

    Those of the parameters, of shape `own_shape`, are summed over the blocks in float64.
    """
    dy, x, y = given
    x = as_array("x", x)
    memory = _of_samples(x)
    bits, upstream = memory.bits("x", x), memory.bits("dy", dy)
    result = None if y is None else memory.bits("y", y)
    out_dx, out_dgamma, out_dbeta, out_dresidual = out
    dx = Result("out.dx", memory, out_dx, (dy, x, y))
    dresidual = None if y is None else Result("out.dresidual", memory, out_dresidual, (dy, x, y, dx.value))
    wanted = {"out.dgamma": out_dgamma, "out.dbeta": out_dbeta}
    targets = {name: _target(name, each, own_shape) for name, each in wanted.items()}
    read = (("dy", dy), ("x", x), ("y", y), ("out.dx", out_dx), ("out.dresidual", out_dresidual))
    if out_dgamma is not None:
        expect_apart("out.dgamma", out_dgamma, (*read, ("out.dbeta", out_dbeta)))
    if out_dbeta is not None:
        expect_apart("out.dbeta", out_dbeta, read)
    sums: list[Any] = [None, None]
    if is_cut:
        for name, each in stats._asdict().items():
            expect_shape(f"stats.{name}", np.shape(each)[:1], (memory.b,))
    blocks = memory.blocks() if is_cut else [slice(0, memory.b)]
    rooms = memory.room(blocks, upstream, bits, result)
    for block in blocks:
        g, own, of_y = (
            _shaped(memory, each, block, room) for each, room in zip((upstream, bits, result), rooms, strict=True)
        )
        parts = [None if each is None else np.empty(own_shape, np.float32) for each in wanted.values()]
        known = type(stats)(*(each[block] for each in stats)) if is_cut else stats
        found = call(g, own, known, y=of_y, out=(g, *parts, None))
        memory.write(found[0], block, dx.bits)
        for k, value in enumerate(found[1:3]):
            if value is not None:
                sums[k] = value.astype(np.float64) if sums[k] is None else sums[k] + value
        if dresidual is not None:
            memory.write(found[3], block, dresidual.bits)
    dx.done()
    if dresidual is not None:
        dresidual.done()
    gradients = []
    for given_array, target, total in zip(wanted.values(), targets.values(), sums, strict=True):
        if target is not None:
            target[...] = total
        gradients.append(given_array if target is not None else None if total is None else total.astype(np.float32))
    return dx.value, gradients[0], gradients[1], None if dresidual is None else dresidual.value
