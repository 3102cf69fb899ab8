"""Packing for the convolutions: copies of the source in which every tap of the kernel is a plain shift.

Rows and columns that are a stride apart lie next to each other, between borders of zeros, so that a tap is an offset
whatever the stride, padding or dilation: the loops over taps know no borders and no tails. Where rows of results fill
vectors (nearly), one copy of a plane serves all taps that are a stride apart, and vectors end with their row. Else each
column of the kernel has its own copy, already shifted, in rows as long as those of the results, and vectors run on over
the ends of rows.
"""

from nbnorm._jit import device
from nbnorm.simd.lanes import load_between, load_even_between
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, splat, store

__all__ = ["OVERRUN", "pack"]

OVERRUN = LANES_FLOAT32  # values after each channel's planes: what reaches beyond a row meets no other channel's


@device
def pack(
    source, at, height, width, channels, first, slots, columns, row_step, column_step, shifts, residues, target, to
):
    """Pack `channels` planes that begin at source[at] into target[to:] as [channel][row copy][column copy][slot].

    Slot s of a copy holds source row (first + s) * row_step + shifts[row copy]; its column q is source column
    q * column_step + shifts[residues + column copy], 0 outside of the plane. OVERRUN values follow each channel, of
    which a vector is 0. `residues` is the number of row copies.
    """
    for _ in range(channels):
        for residue in range(residues):
            shift = shifts[residue]
            low = min(slots, max(0, -_quotient(first * row_step + shift, row_step)))
            high = max(low, min(slots, -_quotient(first * row_step + shift - height, row_step)))
            start = at + ((first + low) * row_step + shift) * width
            for j in range(residues, shifts.size):
                _zeros(target, to, low * columns)
                _rows(source, start, width, row_step * width, high - low, columns, column_step, shifts[j], target,
                      to + low * columns)  # fmt: skip
                _zeros(target, to + high * columns, (slots - high) * columns)
                to += slots * columns
        store(target, to, splat(target.dtype.type(0)))
        to += OVERRUN
        at += height * width


@device
def _quotient(value, step):
    return value if step == 1 else value // step  # a division takes as long as packing a few rows


@device
def _zeros(target, to, size):
    zero = splat(target.dtype.type(0))
    for v in range(0, size, lanes_of(target)):
        store(target, to + v, zero)


@device
def _rows(source, start, width, stride, rows, columns, step, shift, target, to):
    """Copy `rows` rows; the last vector of a row runs over into the next row, which is written later."""
    lanes = lanes_of(target)
    last = (columns - 1) // lanes * lanes
    for v in range(last, -1, -lanes):
        column = v * step + shift
        at = start + column
        if step == 1:
            for row in range(rows):
                store(target, to + row * columns + v, load_between(source, at + row * stride, -column, width - column))
        elif step == 2:
            for row in range(rows):
                value = load_even_between(source, at + row * stride, -column, width - column)
                store(target, to + row * columns + v, value)
        else:
            for row in range(rows):
                for lane in range(min(lanes, columns - v)):
                    inside = 0 <= column + lane * step < width
                    value = source[at + row * stride + lane * step] if inside else target.dtype.type(0)
                    target[to + row * columns + v + lane] = value
