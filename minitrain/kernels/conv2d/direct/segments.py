"""The table that `pack` works from: which values of a source become which values of its copies, vector by vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbnorm.simd.vectors import VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.direct.cut import Copies, Integers, Table

__all__ = ["segments_of_copies"]


def segments_of_copies(
    planes: Integers, band: Integers, steps: Integers, bands: int, rows: Copies, columns: Copies
) -> dict[int, Table]:
    """For each item size the segments that `pack` works from; `band` is its rows and the halo and gap beyond them."""
    height, width = planes[:2]
    slots, length = band[0] + band[1], planes[-1] + band[2]
    # a copy may be the plane itself, shifted
    shifted = bands == 1 and steps == (1, 1) and length == width and not columns.reach
    result = {}
    for size in (4, 8):
        lanes = VECTOR_BYTES // size
        segments: list[Integers] = []
        for i, down in enumerate(rows.begins):
            for j, right in enumerate(columns.begins):
                to = (i * len(columns.begins) + j) * slots * length
                if shifted:
                    inside = _inside(slots, down, height)[:, None] & _inside(length, right, width)
                    segments += _shifted(inside.ravel(), down * width + right, to, lanes)
                    continue
                for slot in range(slots):
                    row = slot * steps[0] + down
                    if bands > 1 or 0 <= row < height:
                        segments += _row(row, right, width, steps[1], length, to + slot * length, lanes)
        result[size] = np.array(segments, dtype=np.int64).reshape(-1, 5).T.ravel()
    return result


def _inside(size: int, begin: int, end: int) -> NDArray[np.bool_]:
    places = np.arange(size) + begin
    return (places >= 0) & (places < end)


def _bits(count: int) -> int:
    return (1 << count) - 1


def _shifted(inside: NDArray[np.bool_], begin: int, to: int, lanes: int) -> list[Integers]:
    """Segments of a copy that is the plane itself, shifted, without what is not inside."""
    result: list[Integers] = []
    for v in range(0, inside.size, lanes):
        lane = inside[v : v + lanes]
        result.append((0, begin + v, to + v, int(lane @ (1 << np.arange(lane.size))), _bits(lane.size)))
    return result


def _row(row: int, begin: int, width: int, step: int, length: int, to: int, lanes: int) -> list[Integers]:
    """Segments of what exists of a row; the last is moved back to end with it."""
    low = max(0, -(begin // step))
    size = min(length, -((begin - width) // step)) - low
    result: list[Integers] = []
    for v in range(0, size, lanes):
        column, count = low + min(v, max(0, size - lanes)), min(lanes, size)
        source = column * step + begin
        reads = min(step * (count - 1) + 1, width - source) if step <= 2 else 0
        result.append((row, row * width + source, to + column, _bits(reads), _bits(count)))
    return result
