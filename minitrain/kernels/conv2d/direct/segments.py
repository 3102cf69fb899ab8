"""Which values of a source become which values of its packed copies: the table that `pack` works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minitrain.kernels.conv2d.cutting import Row, rounded
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = [
    "Copies", "Layout", "forward_copies", "layout_of", "make_copies", "segments_of_copies", "shares_columns",
    "tap_offset",
]  # fmt: skip

# Share one copy of a plane among all taps of a row, with vectors that end with their row, if that wastes at most 15 %
# of the lanes. Above, more lanes are multiplied for nothing than the copies of their own for each column cost; below,
# planes are packed once for each column of the kernel without need. Found with `benchmarks.peers conv` on 4 cores of
# an AVX-512 Xeon, 2026-11.
WASTE = 1.15

# Values after each channel's planes, so that a vector that reaches beyond the last row meets no other channel's values.
# Not tuned: fewer than a vector of float32 would let a NaN of one channel into the next.
OVERRUN = LANES_FLOAT32

Segment = tuple[int, int, int, int, int]


class Copies(NamedTuple):
    """Copies along one axis: where each begins in the source, and for each tap its copy and its shift in that.

    From one value of a copy to the next it is a `stride` in the source.
    """

    begins: list[int]
    taps: list[tuple[int, int]]
    stride: int

    @property
    def reach(self) -> int:
        return max(shift for _, shift in self.taps)


class Layout(NamedTuple):
    """How a channel's copies lie in packed memory: planes of `rows + halo` by `columns + gap`.

    `rows` and `columns` are those of the results; the taps reach a halo and a gap beyond them.
    """

    rows: int
    columns: int
    halo: int
    gap: int
    copies: int

    @property
    def row(self) -> int:
        """Values from one row to the next."""
        return self.columns + self.gap

    @property
    def plane(self) -> int:
        """Values from one copy of a plane to the next."""
        return (self.rows + self.halo) * self.row

    @property
    def channel(self) -> int:
        """Values from one channel to the next."""
        return self.copies * self.plane + OVERRUN


def make_copies(begins: list[int], stride: int, shared: bool = True) -> Copies:
    """Taps that begin a multiple of the stride apart share a copy, or every tap gets its own."""
    if not shared:
        return Copies(begins, [(tap, 0) for tap in range(len(begins))], stride)
    first = {begin % stride: begin for begin in sorted(begins, reverse=True)}
    keys = list(first)
    taps = [(keys.index(begin % stride), (begin - first[begin % stride]) // stride) for begin in begins]
    return Copies(list(first.values()), taps, stride)


def shares_columns(columns: int) -> bool:
    """Whether one copy of a plane can serve all taps: vectors then end with their row, which wastes some lanes."""
    return rounded(columns) <= WASTE * columns


def forward_copies(g: Geometry) -> tuple[Copies, Copies]:
    """Copies of x by row and by column: tap (i, j) begins at row i * dh - ph, column j * dw - pw."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    rows = make_copies([i * dh - ph for i in range(kh)], sh)
    return rows, make_copies([j * dw - pw for j in range(kw)], sw, shares_columns(g.output_shape[3]))


def layout_of(rows: Copies, columns: Copies, height: int, width: int) -> Layout:
    """Layout of the copies for so many rows and columns of results."""
    return Layout(height, width, rows.reach, columns.reach, len(rows.begins) * len(columns.begins))


def tap_offset(rows: Copies, columns: Copies, tap: tuple[int, int], layout: Layout) -> int:
    """Where a tap (row, column) finds its first pixel in the copies of a channel."""
    i, j = tap
    (row_copy, down), (column_copy, right) = rows.taps[i], columns.taps[j]
    return (row_copy * len(columns.begins) + column_copy) * layout.plane + down * layout.row + right


def segments_of_copies(
    rows: Copies, columns: Copies, height: int, width: int, layout: Layout, banded: bool, lanes: int
) -> Row:
    """The segments that `pack` works from, for a source of height x width; `banded`: one of several bands of it."""
    # a copy may be the plane itself, shifted
    shifted = not banded and (rows.stride, columns.stride) == (1, 1) and layout.row == width and not columns.reach
    slots = layout.rows + layout.halo
    segments: list[Segment] = []
    for i, down in enumerate(rows.begins):
        for j, right in enumerate(columns.begins):
            copy = (i * len(columns.begins) + j) * layout.plane
            if shifted:
                inside = _inside(slots, down, height)[:, None] & _inside(layout.row, right, width)
                segments += _shifted(inside.ravel(), down * width + right, copy, lanes)
                continue
            for slot in range(slots):
                row = slot * rows.stride + down
                if banded or 0 <= row < height:
                    segments += _row(row, right, width, columns.stride, layout.row, copy + slot * layout.row, lanes)
    return np.array(segments, dtype=np.int64).reshape(-1, 5).T.ravel()


def _inside(size: int, begin: int, end: int) -> NDArray[np.bool_]:
    rows = np.arange(size) + begin
    return (rows >= 0) & (rows < end)


def _bits(count: int) -> int:
    return (1 << count) - 1


def _shifted(inside: NDArray[np.bool_], begin: int, copy: int, lanes: int) -> list[Segment]:
    """Segments of a copy that is the plane itself, shifted, without what is not inside."""
    result: list[Segment] = []
    for v in range(0, inside.size, lanes):
        lane = inside[v : v + lanes]
        result.append((0, begin + v, copy + v, int(lane @ (1 << np.arange(lane.size))), _bits(lane.size)))
    return result


def _row(row: int, begin: int, width: int, stride: int, length: int, copy_row: int, lanes: int) -> list[Segment]:
    """Segments of what exists of a row; the last is moved back to end with it."""
    low = max(0, -(begin // stride))
    size = min(length, -((begin - width) // stride)) - low
    result: list[Segment] = []
    for v in range(0, size, lanes):
        column, count = low + min(v, max(0, size - lanes)), min(lanes, size)
        first = column * stride + begin
        reads = min(stride * (count - 1) + 1, width - first) if stride <= 2 else 0
        result.append((row, row * width + first, copy_row + column, _bits(reads), _bits(count)))
    return result
