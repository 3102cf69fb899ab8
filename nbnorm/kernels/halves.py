"""Runs of float16 or bfloat16 as float32, and back."""

import numpy as np

from nbnorm.jit import kernel, prange
from nbnorm.simd.conversions import from_bfloat16, from_float16, to_bfloat16, to_float16
from nbnorm.simd.memory import borrowed

__all__ = ["narrow", "widen"]

# Elements of a task. Fewer take less time than a thread needs to begin them; more leave threads idle for a block of
# nbnorm.halves. Not tuned.
PIECE = 8192


@kernel
def widen(halves, place, is_bfloat, values):
    """values[run, i] = halves[first + run * pitch + i], place = (first, pitch); halves are bits, all in one row."""
    first, pitch = place
    runs, length = values.shape
    pieces = -(-length // PIECE)
    for task in prange(runs * pieces):
        run, begin = np.intp(task) // pieces, np.intp(task) % pieces * PIECE
        end, at = min(begin + PIECE, length), first + run * pitch
        # Slices, so that indices begin at 0: LLVM makes vectors of a loop only where it knows that none is negative.
        source, target = borrowed(halves)[at + begin : at + end], borrowed(values)[run, begin:end]
        if is_bfloat:
            for i in range(source.size):
                target[i] = from_bfloat16(source[i])
        else:
            for i in range(source.size):
                target[i] = from_float16(source[i])


@kernel
def narrow(values, place, is_bfloat, halves):
    """The other way, rounded to nearest even."""
    first, pitch = place
    runs, length = values.shape
    pieces = -(-length // PIECE)
    for task in prange(runs * pieces):
        run, begin = np.intp(task) // pieces, np.intp(task) % pieces * PIECE
        end, at = min(begin + PIECE, length), first + run * pitch
        source, target = borrowed(values)[run, begin:end], borrowed(halves)[at + begin : at + end]
        if is_bfloat:
            for i in range(source.size):
                target[i] = to_bfloat16(source[i])
        else:
            for i in range(source.size):
                target[i] = to_float16(source[i])
