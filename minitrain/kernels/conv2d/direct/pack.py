"""Packing for the convolutions: copies of the source in which every tap of the kernel is a plain shift.

Rows and columns that are a stride apart lie next to each other, between borders of zeros, so that a tap is an offset
whatever the stride, padding or dilation: the loops over taps know no borders and no tails. Where rows of results fill
vectors (nearly), one copy of a plane serves all taps that are a stride apart, and vectors end with their row. Else each
column of the kernel has its own copy, already shifted, in rows as long as those of the results, and vectors run on over
the ends of rows.
"""

from nbnorm.jit import device
from nbnorm.simd.bits import load_bits, load_even_bits, store_bits
from nbnorm.simd.memory import item, prefetch
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, load, splat, store

__all__ = ["OVERRUN", "clear", "fetch", "pack"]

OVERRUN = LANES_FLOAT32  # values after each channel's planes: what reaches beyond a row meets no other channel's


@device
def pack(source, at, height, width, channels, first, step, segments, target, to, pitch):
    """Pack `channels` planes that begin at source[at] into target[to:], `pitch` values apart, from row `first` on.

    segments: for each vector of the copies its row after the first, its place in the source after that row's
    `first * width`, its place among the copies, and as bits which lanes are read and which are written; every `step`-th
    value of the source is read. What no segment writes is left alone: `clear` made it 0.
    """
    lanes = lanes_of(target)
    size = segments.size // 5
    whole = (1 << lanes) - 1
    for _ in range(channels):
        start = at + first * width
        for s in range(size):
            if 0 <= first + item(segments, s) < height:
                place, goal = start + item(segments, size + s), to + item(segments, 2 * size + s)
                reads, writes = item(segments, 3 * size + s), item(segments, 4 * size + s)
                if step == 1:
                    if lanes < 16 and reads == whole and writes == whole:  # not all processors have masks
                        store(target, goal, load(source, place))
                    else:
                        store_bits(target, goal, load_bits(source, place, reads), writes)
                elif step == 2:
                    store_bits(target, goal, load_even_bits(source, place, reads), writes)
                else:
                    for lane in range(lanes):
                        if writes >> lane & 1:
                            target[goal + lane] = source[place + lane * step]
        to += pitch
        at += height * width


@device
def clear(target, to, size):
    """Set target[to : to + size] to 0, and a little more."""
    zero = splat(target.dtype.type(0))
    for v in range(0, size, lanes_of(target)):
        store(target, to + v, zero)


@device
def fetch(array, ahead):
    """Fetch the next ahead[1] values of array[ahead[0]:], and return where to go on."""
    at, count = ahead
    for i in range(at, at + count, LANES_FLOAT32):
        prefetch(array, i)
    return at + count, count
