"""Packing for the convolutions: copies of the source in which every tap of the kernel is a plain shift.

Rows and columns that are a stride apart lie next to each other, between borders of zeros, so that a tap is an offset
whatever the stride, padding or dilation: the loops over taps know no borders and no tails. Where rows of results fill
vectors (nearly), one copy of a plane serves all taps that are a stride apart, and vectors end with their row. Else each
column of the kernel has its own copy, already shifted, in rows as long as those of the results, and vectors run on over
the ends of rows.
"""

from nbnorm._jit import device
from nbnorm.simd.lanes import item, load_between, load_bits, load_even_between, prefetch, store_between
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, load, splat, store

__all__ = ["OVERRUN", "clear", "fetch", "pack"]

OVERRUN = LANES_FLOAT32  # values after each channel's planes: what reaches beyond a row meets no other channel's


@device
def pack(
    source, at, height, width, channels, first, slots, columns, row_step, column_step, shifts, residues, masks, target,
    to,
):  # fmt: skip
    """Pack `channels` planes that begin at source[at] into target[to:] as [channel][row copy][column copy][slot].

    Slot s of a copy holds source row (first + s) * row_step + shifts[row copy]; its column q is source column
    q * column_step + shifts[residues + column copy]. What lies outside of the plane is left alone, and so are the
    OVERRUN values that follow each channel: `clear` made them 0. `residues` is the number of row copies.

    Where `masks` is not empty, a copy is the plane itself, shifted, and masks has the lanes of each of its vectors
    that lie within the plane, as bits.
    """
    copies = residues * (shifts.size - residues)
    for _ in range(channels):
        for residue in range(residues):
            shift = item(shifts, residue)
            low = min(slots, max(0, -_quotient(first * row_step + shift, row_step)))
            high = max(low, min(slots, -_quotient(first * row_step + shift - height, row_step)))
            start = at + ((first + low) * row_step + shift) * width
            for j in range(residues, shifts.size):
                if masks.size:
                    vectors = masks.size // copies
                    copy = residue * (shifts.size - residues) + j - residues
                    _shifted(source, at + shift * width + item(shifts, j), masks, copy * vectors, vectors, target, to)
                else:
                    _rows(source, start, width, row_step * width, high - low, columns, column_step, item(shifts, j),
                          target, to + low * columns)  # fmt: skip
                to += slots * columns
        if masks.size:  # the last vector of a copy may run over its end
            store(target, to, splat(target.dtype.type(0)))
        to += OVERRUN
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


@device
def _quotient(value, step):
    return value if step == 1 else value // step  # a division takes as long as packing a few rows


@device
def _shifted(source, at, masks, first, vectors, target, to):
    """Copy vectors of source[at:], with 0 in the lanes that are not in their masks, which begin at `first`."""
    lanes = lanes_of(target)
    for v in range(vectors):
        store(target, to + v * lanes, load_bits(source, at + v * lanes, item(masks, first + v)))


@device
def _rows(source, start, width, stride, rows, columns, step, shift, target, to):
    """Copy what exists of `rows` rows; the last vector of a row is moved back to end with it."""
    lanes = lanes_of(target)
    low = max(0, -_quotient(shift, step))
    size = min(columns, -_quotient(shift - width, step)) - low
    for v in range(0, size, lanes):
        column = low + min(v, max(0, size - lanes))
        at, place, count = start + column * step + shift, to + column, min(lanes, size)
        if step == 1 and count == lanes:
            for row in range(rows):
                store(target, place + row * columns, load(source, at + row * stride))
        elif step == 1:
            for row in range(rows):
                store_between(
                    target, place + row * columns, load_between(source, at + row * stride, 0, count), 0, count
                )
        elif step == 2:
            limit = width - (column * 2 + shift)
            for row in range(rows):
                value = load_even_between(source, at + row * stride, 0, limit)
                store_between(target, place + row * columns, value, 0, count)
        else:
            for row in range(rows):
                for lane in range(count):
                    target[place + row * columns + lane] = source[at + row * stride + lane * step]
