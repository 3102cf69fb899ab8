"""Packing for the convolutions: copies of the source in which every tap of the kernel is a plain shift.

A plane of `slots` rows and `columns` columns is copied once for each column of the kernel, already shifted and with
its border of zeros. A block of output pixels, taken as one long row of rows * columns values, then meets tap (i, j) in
copy j, `shift * columns` further on, whatever the stride, padding or dilation: the loops over taps know no borders and
no tails. Rows that are a stride apart lie next to each other, one set of rows for each residue of the tap's row.
"""

from nbnorm._jit import device
from nbnorm.simd.lanes import load_between, load_even_between
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, splat, store

__all__ = ["OVERRUN", "pack"]

OVERRUN = (
    LANES_FLOAT32  # zeros after each channel's planes, for vectors that reach beyond a row: they stay in the channel
)


@device
def pack(
    source, at, height, width, channels, first, slots, columns, row_step, column_step, shifts, residues, target, to
):
    """Pack `channels` planes that begin at source[at] into target[to:] as [channel][residue][column of kernel][slot].

    OVERRUN values follow each channel, of which a vector is 0.

    Slot s holds source row (first + s) * row_step + shifts[residue], column q of it holds source column
    q * column_step + shifts[residues + column of kernel], 0 outside of the plane.
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
