"""What all algorithms do with memory: clear it, ask for it ahead of its use, and name stretches of it."""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.simd.memory import prefetch
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, splat, store

__all__ = ["Operand", "Run", "clear", "fetch"]


class Run(NamedTuple):
    """`number` runs of `length` values of `array`, `pitch` apart, from `offset` on. Inside of kernels only."""

    array: Any
    offset: int
    pitch: int
    number: int
    length: int


class Operand(NamedTuple):
    """What is read or written from array[offset] on, where the offsets in it come from a table."""

    array: Any
    offset: int


@device
def clear(target, offset, size):
    """Set target[offset : offset + size] to 0, and a little more."""
    zero = splat(target.dtype.type(0))
    for v in range(0, size, lanes_of(target)):
        store(target, offset + v, zero)


@device
def fetch(array, ahead):
    """Ask for the next values of `array`; ahead: from which offset on, and how many. Returns where to go on."""
    offset, count = ahead
    for i in range(offset, offset + count, LANES_FLOAT32):
        prefetch(array, i)
    return offset + count, count
