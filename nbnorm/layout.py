"""From what the caller passes to what the kernels take: C-contiguous (N, C, L) views, copied only where unavoidable."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_float, expect_shape, expect_writable, mismatch

ndarray, may_share_memory = np.ndarray, np.may_share_memory  # looked up for each argument of each call

# Streaming stores want whole cache lines, which malloc does not give; small arrays are not worth the extra view.
ALIGNMENT = 64
ALIGNED_FROM = 1 << 20


def as_array(name: str, value: Any) -> Array:
    """View `value` as an array without a copy: NumPy arrays, `__array__`, DLPack, CPU tensors of PyTorch."""
    if type(value) is ndarray:
        return value
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if not any(hasattr(value, protocol) for protocol in ("__array__", "__dlpack__", "__array_interface__")):
        raise TypeError(mismatch(name, "an array", type(value).__name__))
    try:
        return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    except Exception as error:  # a bfloat16 tensor, one on a GPU or one that requires gradients: each in its own way
        raise TypeError(
            f"{mismatch(name, 'an array of float32 or float64 in host memory', type(value).__name__)} ({error})"
        ) from error


class _Writable:
    """The memory of a read-only array, which Numba would otherwise compile every kernel for once more."""

    def __init__(self, array: Array) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = array


def plain(array: Array) -> Array:
    """`array` itself if it is C-contiguous, aligned and writable, else a view or copy that the kernels take as such."""
    if array.flags.carray:
        return array
    if not (array.flags.c_contiguous and array.flags.aligned):
        return np.array(array, order="C")
    return array if array.size == 0 else np.asarray(_Writable(array))


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array that begins at a cache line where it is large."""
    size = math.prod(shape) * dtype.itemsize
    if size < ALIGNED_FROM:
        return np.empty(shape, dtype)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def takes(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether the kernels can read and write `value` as it is: the usual case, decided fast."""
    return type(value) is ndarray and value.dtype is dtype and value.shape == shape and value.flags.carray


class Layout(NamedTuple):
    """How an (N, C, *spatial) array lies in memory, and the (N, C, L) view of it that kernels work on.

    A channels-last array is one of N x L samples of C values each: (N * L, C, 1).
    """

    shape: tuple[int, ...]
    view: tuple[int, int, int]
    channels: tuple[int]  # shape of a value for each channel
    channels_last: bool
    dtype: np.dtype[Any]
    small: bool = False  # known to need no alignment
    direct: bool = False  # the array that it was made for is what the kernels take, but for its shape

    def read(self, name: str, value: Any) -> Array:
        """The kernels' view of an input that must have this shape and type; a copy if it lies differently in memory."""
        if not self.channels_last and takes(value, self.shape, self.dtype):
            return value.reshape(self.view)  # type: ignore[no-any-return]
        array = as_array(name, value)
        if array.shape != self.shape:
            expect_shape(name, array.shape, self.shape)
        if array.dtype != self.dtype:
            expect_float(name, array, self.dtype)
        return self.flat(array)

    def flat(self, array: Array) -> Array:
        return plain(_channels_to_end(array) if self.channels_last else array).reshape(self.view)

    def new(self) -> Array:
        """A new array of this layout."""
        if not self.channels_last:
            return np.empty(self.shape, self.dtype) if self.small else empty(self.shape, self.dtype)
        end = len(self.shape) - 1
        return empty((self.shape[0], *self.shape[2:], self.shape[1]), self.dtype).transpose(0, end, *range(1, end))

    def vector(self, name: str, value: Any) -> Array:
        """The kernels' view of a value for each channel."""
        if takes(value, self.channels, self.dtype):
            return value  # type: ignore[no-any-return]
        return plain(self._checked(name, value))

    def _checked(self, name: str, value: Any) -> Array:
        array = as_array(name, value)
        expect_shape(name, array.shape, self.channels)
        expect_float(name, array, self.dtype)
        return array

    def moved(self, name: str, value: Any) -> "Array | MovedVector":
        """A value for each channel that a call changes in place: itself, or what stands for it until `done`."""
        return value if takes(value, self.channels, self.dtype) else MovedVector(name, self._checked(name, value))


def _channels_to_end(array: Array) -> Array:
    return array.transpose(0, *range(2, array.ndim), 1)


def layout_of(name: str, array: Array) -> Layout:
    """Check that `array` is a batch of channels and say how it lies in memory."""
    shape, dtype = array.shape, array.dtype
    if array.flags.carray and len(shape) >= 2 and (dtype is FLOATS[0] or dtype is FLOATS[1]):
        return _layout_in_order(shape, dtype)
    if dtype not in FLOATS:
        expect_float(name, array)
    if len(shape) < 2:
        raise ValueError(mismatch(name, "shape (N, C, *spatial)", shape))
    length = 1 if len(shape) == 2 else math.prod(shape[2:])
    if length > 1 and not array.flags.c_contiguous and _channels_to_end(array).flags.c_contiguous:
        return Layout(shape, (shape[0] * length, shape[1], 1), shape[1:2], True, dtype)
    return Layout(shape, (shape[0], shape[1], length), shape[1:2], False, dtype)


@lru_cache(maxsize=1024)
def _layout_in_order(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Layout:
    view = (shape[0], shape[1], 1 if len(shape) == 2 else math.prod(shape[2:]))
    return Layout(shape, view, (shape[1],), False, dtype, math.prod(shape) * dtype.itemsize < ALIGNED_FROM, True)


class Copied:
    """Where a result goes that the kernels cannot write in place: they write `flat`, then `done` copies it over."""

    __slots__ = ("flat", "target")

    def __init__(self, target: Array, view: tuple[int, int, int]) -> None:
        self.target = target
        self.flat = np.empty(view, target.dtype)

    def done(self) -> None:
        np.copyto(self.target, self.flat.reshape(self.target.shape))


Output = tuple[Any, Array, Copied | None]


def output(name: str, layout: Layout, given: Any, inputs: tuple[Any, ...] = (), same: tuple[Any, ...] = ()) -> Output:
    """The array for a result, `given` where there is one; what the kernels write; what is to be `done` afterwards.

    The caller's array cannot be written in place where it lies differently in memory, or where it overlaps an input
    other than element for element (`inputs`; those in `same` may be the very same memory).
    """
    if given is None:
        result = layout.new()
        return result, layout.flat(result) if layout.channels_last else result.reshape(layout.view), None
    target = as_array(name, given)
    if target.shape != layout.shape or target.dtype is not layout.dtype or not target.flags.writeable:
        expect_shape(name, target.shape, layout.shape)
        expect_float(name, target, layout.dtype)
        expect_writable(name, target)
    if layout.channels_last:
        target = _channels_to_end(target)
    if target.flags.carray and not _disturbs(target, inputs, same):
        return given, target.reshape(layout.view), None
    copied = Copied(target, layout.view)
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
        if may_share_memory(target, array) and not _starts_alike(target, array):
            return True
    return False


def are_apart(written: tuple[Any, Any], read: tuple[Any, ...]) -> bool:
    """Whether at first sight a call's arrays, where not None, share no memory: they are no views, and different ones.

    It takes half a microsecond. To compare the memory of all pairs takes as long as the norm of a small layer.
    """
    for array in written:
        if array is not None:
            if type(array) is not ndarray or array.base is not None:
                return False
            for other in read:
                if other is array:
                    return False
    for other in read:
        if other is not None and (type(other) is not ndarray or other.base is not None):
            return False
    return written[0] is not written[1]


def expect_apart(name: str, written: Any, others: tuple[tuple[str, Any], ...]) -> None:
    """Raise ValueError where an array that a call writes lies in the memory of another one that it reads or writes.

    The kernels work on channels side by side, in any order: what one of them writes must not be what another one reads.
    """
    array = written if type(written) is ndarray else as_array(name, written)
    for other, value in others:
        if value is None:
            continue
        read = value if type(value) is ndarray else as_array(other, value)
        if may_share_memory(array, read) and np.shares_memory(array, read):
            raise ValueError(mismatch(name, "an array with memory of its own", f"memory of {other}; pass a copy"))


def _starts_alike(a: Array, b: Array) -> bool:
    """Arrays of one shape and type that begin at one address are the same elements if they lie alike."""
    b = _channels_to_end(b) if b.shape != a.shape or b.strides != a.strides else b
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides


class MovedVector:
    """An array (C,) that a call changes in place and that does not lie as the kernels take it."""

    def __init__(self, name: str, target: Array) -> None:
        expect_writable(name, target)
        self.target = target
        self.flat = plain(target)

    def done(self) -> None:
        if self.flat is not self.target:
            np.copyto(self.target, self.flat)


def channel_output(name: str, layout: Layout, given: Any) -> tuple[Any, Array, MovedVector | None]:
    """An array (C,) that a call writes, the caller's or a new one; what the kernels write; what is to be done."""
    if given is None:
        result = np.empty(layout.channels, layout.dtype)
        return result, result, None
    moved = layout.moved(name, given)
    return (given, moved.flat, moved) if isinstance(moved, MovedVector) else (given, moved, None)
