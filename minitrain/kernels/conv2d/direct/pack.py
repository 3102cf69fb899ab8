"""Packing for the convolutions: copies of the source in which every tap of the kernel is a plain shift.

Rows and columns that are a stride apart lie next to each other, between borders of zeros, so that a tap is an offset
whatever the stride, padding or dilation: the loops over taps know no borders and no tails. Where rows of results fill
vectors (nearly), one copy of a plane serves all taps that are a stride apart, and vectors end with their row. Else each
column of the kernel has its own copy, already shifted, in rows as long as those of the results, and vectors run on over
the ends of rows.
"""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.simd.bits import load_bits, load_even_bits, store_bits
from nbnorm.simd.memory import item
from nbnorm.simd.vectors import lanes_of, load, store

__all__ = ["Planes", "pack"]


class Planes(NamedTuple):
    """`channels` planes of height x width, one behind the other from array[offset] on. Inside of kernels only."""

    array: Any
    offset: int
    channels: int
    height: int
    width: int


@device
def pack(source, first_row, stride, segments, target, target_offset, pitch):
    """Pack the `source` (Planes) from a row on into target[target_offset:], `pitch` values from channel to channel.

    Every `stride`-th value of a row is read. segments: five columns, one behind the other, with an item for each vector
    of the copies: its row after the first, its offset in the source after `first_row * width`, its offset among the
    copies, and as bits which lanes are read and which are written. What no segment writes is left alone: `clear` made
    it 0.
    """
    array, height = source.array, source.height
    lanes = lanes_of(target)
    size = segments.size // 5
    whole = (1 << lanes) - 1
    plane = source.offset + first_row * source.width
    for _ in range(source.channels):
        for s in range(size):
            if 0 <= first_row + item(segments, s) < height:
                value, copy = plane + item(segments, size + s), target_offset + item(segments, 2 * size + s)
                reads, writes = item(segments, 3 * size + s), item(segments, 4 * size + s)
                if stride == 1:
                    if lanes < 16 and reads == whole and writes == whole:  # not all processors have masks
                        store(target, copy, load(array, value))
                    else:
                        store_bits(target, copy, load_bits(array, value, reads), writes)
                elif stride == 2:
                    store_bits(target, copy, load_even_bits(array, value, reads), writes)
                else:
                    for lane in range(lanes):
                        if writes >> lane & 1:
                            target[copy + lane] = array[value + lane * stride]
        plane += height * source.width
        target_offset += pitch
