"""The results of a norm of rows: the caller's arrays or new ones, and what is to be done where kernels write others."""

from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_float, expect_shape, expect_writable
from nbnorm.kernels.rows.turn import turn
from nbnorm.layout import Copied, as_array, may_share_memory, ndarray
from nbnorm.row_layout import RowLayout, matrices_of, moved_axes

__all__ = ["output", "vector_output"]


class Turned(Copied):
    """`Copied` to where the axes lie in another order."""

    def done(self) -> None:
        matrices = matrices_of(self.target)
        if matrices is None or not matrices.flags.carray:
            super().done()
            return
        number, rows, columns = matrices.shape
        turn.for_work(matrices.size)(self.flat.reshape(number, columns, rows), matrices)


Output = tuple[Any, Array, Copied | None]


def output(
    name: str, layout: RowLayout, given: Any, inputs: tuple[Any, ...] = (), same: tuple[Any, ...] = ()
) -> Output:
    """The array for a result, `given` where there is one; what the kernels write; what is to be `done` afterwards.

    As `layout.output`: inputs are not to be disturbed, those in `same` may be the very same memory.
    """
    if given is None:
        given = target = layout.new()
        inputs = same = ()
    else:
        target = as_array(name, given)
        expect_shape(name, target.shape, layout.shape)
        expect_float(name, target, layout.dtype)
        expect_writable(name, target)
    moved = moved_axes(target, layout.order)
    if moved.flags.carray and not _disturbs(target, inputs, same):
        return given, moved.reshape(layout.view), None
    copied = Turned(moved, layout.view)
    return given, copied.flat, copied


def _disturbs(target: Array, inputs: tuple[Any, ...], same: tuple[Any, ...]) -> bool:
    """Whether writing `target` would change what is still to be read."""
    for value in inputs:
        if value is not None and may_share_memory(target, value if type(value) is ndarray else as_array("out", value)):
            return True
    for value in same:
        if value is None or value is target:
            continue
        array = value if type(value) is ndarray else as_array("out", value)
        alike = array.ctypes.data == target.ctypes.data and array.strides == target.strides
        if may_share_memory(target, array) and not alike:
            return True
    return False


class MovedParameter:
    """An array like gamma that a call writes and that does not lie as the kernels take it."""

    def __init__(self, target: Array, layout: RowLayout) -> None:
        self.target = moved_axes(target, layout.own_order)
        self.flat = np.empty(target.size, layout.dtype)

    def done(self) -> None:
        np.copyto(self.target, self.flat.reshape(self.target.shape))


def vector_output(name: str, layout: RowLayout, given: Any) -> tuple[Any, Array, MovedParameter | None]:
    """An array like gamma that a call writes, the caller's or a new one; what the kernels write; what is to be done."""
    if given is None:
        given = target = np.empty(layout.own, layout.dtype)
    else:
        target = as_array(name, given)
        expect_shape(name, target.shape, layout.own)
        expect_float(name, target, layout.dtype)
        expect_writable(name, target)
    if layout.own_order is None and target.flags.carray:
        return given, target.reshape(-1), None
    moved = MovedParameter(target, layout)
    return given, moved.flat, moved
