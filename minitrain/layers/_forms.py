"""The forms of batch norm as layers bind them: of valid values, by ghosts, renormalized, with significant moves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

import numpy as np

from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Shape, Spec, Tensors, array, describe
from minitrain.layers._arrays import as_3d
from minitrain.layers._renorm import Renorm
from minitrain.layers._running import move_significant
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import mismatch
from nbnorm.kernels.batch_norm import dispatch, ghosts, masked, renorm
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = [
    "bind_backward", "bind_forward", "bind_valid", "bind_valid_infer", "expect_mask", "saved_of", "stats_shape",
    "valid_copies_before",
]  # fmt: skip


class Norm(Protocol):
    """What the forms ask of the layer that they belong to."""

    relu: ClassVar[bool]
    adds_residual: ClassVar[bool]

    @property
    def eps(self) -> float: ...
    @property
    def ghost_size(self) -> int | None: ...
    @property
    def renorm(self) -> Renorm | None: ...
    @property
    def threshold(self) -> float | None: ...
    def affine_of(self, t: Tensors) -> tuple[Array, Array]: ...
    def running_of(self, t: Tensors) -> tuple[Array, Array]: ...
    def residual_of(self, t: Tensors) -> Array: ...
    def is_masked(self, t: Tensors) -> bool: ...


def expect_mask(name: str, x: Shape, given: Spec) -> None:
    """Raise ValueError unless the second input says which values of the first are valid."""
    mask, lengths = Spec((x[0], *x[2:]), "bool"), Spec((x[0],), given.dtype)
    is_lengths = given.dtype is not None and np.dtype(given.dtype).kind in "iu" and len(x) == 3
    if given != mask and not (is_lengths and given == lengths):
        expected = f"a mask, {describe(mask.shape)} of bool"
        expected += ", or lengths, (N,) of integers" if len(x) == 3 else ""
        got = f"{describe(given.shape)} of {given.dtype or 'floats'}"
        raise ValueError(f"{name}: {mismatch('second input', expected, got)}")


def stats_shape(norm: Norm, x: Shape) -> Shape:
    """Return the shape of the batch's statistics."""
    return (x[1],) if norm.ghost_size is None else (ghosts.count(x[0], norm.ghost_size), x[1])


def saved_of(norm: Norm, x: Shape, is_masked: bool) -> dict[str, Spec]:
    """Return what a form keeps for its backward pass, beside mean and inverse standard deviation."""
    saved: dict[str, Spec] = {}
    if is_masked:
        positions = int(np.prod((x[0], *x[2:])))
        rows = positions if positions == x[0] else 0
        saved |= {"marks": array((positions + VECTOR_BYTES,), "uint8"), "rows": array((rows,), "int64")}
        saved["valid_count"] = array((1,), "int64")
    if norm.renorm is not None:
        saved |= {"r": array((x[1],), "float64"), "d": array((x[1],), "float64")}
    return saved


class Marks:
    """Which values of a batch are valid, written into arrays that stay: `masked.Valid` of a mask or of lengths."""

    def __init__(self, given: Array, x: Array, marks: Array, rows: Array, count: Array) -> None:
        self.given, self.marks, self.rows, self.count, self.shape = given, marks, rows, count, x.shape
        self.mask = marks[:-VECTOR_BYTES].view(bool).reshape(x.shape[0], -1)
        self.positions = np.arange(self.mask.shape[1])

    def write(self) -> None:
        """Take what the second input holds now."""
        self.marks[-VECTOR_BYTES:] = 0
        if self.given.dtype == np.bool_:
            np.copyto(self.mask, self.given.reshape(self.mask.shape))
            self.count[0] = np.count_nonzero(self.mask)
        else:
            if self.given.size and not 0 <= self.given.min() <= self.given.max() <= self.mask.shape[1]:
                got = f"{self.given.min()} to {self.given.max()}"
                raise ValueError(f"BatchNorm: {mismatch('lengths', f'numbers from 0 to {self.mask.shape[1]}', got)}")
            np.less(self.positions, self.given[:, None], out=self.mask)
            self.count[0] = self.given.sum()
        if self.rows.size:
            self.rows[: self.count[0]] = np.flatnonzero(self.mask)
            self.rows[self.count[0] :] = 0

    def valid(self) -> masked.Valid:
        """Return what the kernels are told."""
        return masked.Valid(self.marks, self.rows, int(self.count[0]))

    def expect_two(self) -> None:
        """Raise ValueError where there are too few for statistics."""
        if self.count[0] < 2:
            raise ValueError(
                "BatchNorm: statistics need two or more valid values per channel, "
                f"got {self.count[0]} in the batch of shape {self.shape}"
            )


def bind_forward(norm: Norm, t: Tensors, momentum: Callable[[], float]) -> Call:
    """Return the call of a form's training forward pass."""
    x, y, affine, running = as_3d(t.xs[0]), as_3d(t.y), norm.affine_of(t), norm.running_of(t)
    stats, eps, relu, residual = (t.mean, t.inv_std), norm.eps, norm.relu, norm.residual_of(t)
    none, size = nothing(t.y.dtype), norm.ghost_size
    marks = Marks(t.xs[1], t.xs[0], t.marks, t.rows, t.valid_count) if norm.is_masked(t) else None

    def of_valid() -> None:
        assert marks is not None
        marks.write()
        marks.expect_two()
        rule = (0.0 if norm.threshold is not None else momentum(), eps)
        moving = running if norm.threshold is None else (none, none)
        masked.forward(x, residual, marks.valid(), affine, moving, rule, relu, stats, y)

    def by_ghosts() -> None:
        ghosts.forward(x, residual, affine, running, (momentum(), eps), relu, size, stats, y)  # type: ignore[arg-type]

    def renormalized() -> None:
        weight = momentum()
        limits = norm.renorm.limits(int(t.num_batches[0]) - 1)  # type: ignore[union-attr]
        t.r[...], t.d[...] = renorm.forward(x, residual, affine, running, (weight, eps), limits, relu, stats, y)

    def unmoved() -> None:
        dispatch.forward(x, residual, *affine, none, none, 0.0, eps, relu, *stats, y)

    def move() -> None:
        count = x.size // x.shape[1] if marks is None else int(marks.count[0])
        var = np.maximum(t.inv_std**-2.0 - eps, 0.0) * (count / (count - 1))
        t.moved_share[0] = move_significant(running, (t.mean, var), count, norm.threshold, momentum())  # type: ignore[arg-type]

    moving = move if norm.threshold is not None else None
    if marks is not None:
        return in_order(of_valid, moving)
    if size is not None:
        return by_ghosts
    return renormalized if norm.renorm is not None else in_order(unmoved, moving)


def bind_backward(norm: Norm, t: Tensors, gradients: tuple[Array, Array, Array, Array]) -> Call:
    """Return the call of a form's backward pass; gradients = (dx, dgamma, dbeta, dresidual)."""
    dy, x, y, affine = as_3d(t.dy), as_3d(t.xs[0]), as_3d(t.y), norm.affine_of(t)
    stats, relu, added = (t.mean, t.inv_std), norm.relu, norm.adds_residual
    if norm.is_masked(t):
        return lambda: masked.backward(
            dy, x, y, masked.Valid(t.marks, t.rows, int(t.valid_count[0])), stats, affine, relu, added, gradients
        )
    if norm.ghost_size is not None:
        return partial(ghosts.backward, dy, x, y, stats, affine, relu, added, norm.ghost_size, gradients)
    return partial(renorm.backward, dy, x, y, stats, affine, (t.r, t.d), relu, added, gradients)


def bind_valid_infer(norm: Norm, t: Tensors, by_running: Call | None) -> Call:
    """Return the call that infers with a mask: by running statistics, then zeros, or by those of the valid values."""
    x, y, none = as_3d(t.xs[0]), as_3d(t.y), nothing(t.y.dtype)
    positions = x.shape[0] * x.shape[2]
    rows, count = np.empty(positions if x.shape[2] == 1 else 0, np.int64), np.empty(1, np.int64)
    marks = Marks(t.xs[1], t.xs[0], np.empty(positions + VECTOR_BYTES, np.uint8), rows, count)
    affine, stats, rule = norm.affine_of(t), tuple(np.empty((2, x.shape[1]))), (0.0, norm.eps)

    def run() -> None:
        marks.write()
        if by_running is not None:
            by_running()
            masked.clear(y, marks.valid())
        else:
            marks.expect_two()
            absent = nothing(t.y.dtype, 3)
            masked.forward(x, absent, marks.valid(), affine, (none, none), rule, norm.relu, stats, y)  # type: ignore[arg-type]

    return run


def bind_valid(t: Tensors, by_running: Call) -> Call:
    """Return the call that marks what is valid, normalizes by running statistics, and clears the rest."""
    marks, y = Marks(t.xs[1], t.xs[0], t.marks, t.rows, t.valid_count), as_3d(t.y)
    return in_order(marks.write, by_running, lambda: masked.clear(y, marks.valid()))


def valid_copies_before(t: Tensors, backward: Call) -> Call:
    """Return the call that copies the valid values of x and dy, and then makes another call, which reads these."""
    pairs = ((t.xs[0], t.valid_x), (t.dy, t.valid_dy))

    def run() -> None:
        valid = masked.Valid(t.marks, t.rows, int(t.valid_count[0]))
        for source, copy in pairs:
            np.copyto(copy, source)
            masked.clear(as_3d(copy), valid)
        backward()

    return run
