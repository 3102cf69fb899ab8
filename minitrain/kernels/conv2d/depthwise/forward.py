"""The kernel of a depthwise convolution of stride 1, and of its input gradient: plane by plane, in the order of memory.

    y[n, c, p, q] = bias[c] + sum over taps (i, j) of weight[c, i, j] * x[n, c, p + i * dh, q + j * dw]

In plain NumPy, for x (N, C, H, W) already between zeros::

    y = np.broadcast_to(bias[:, None, None], output_shape).copy()
    for i in range(kh):
        for j in range(kw):
            y += weight[:, i, j, None, None] * x[:, :, i * dh :, j * dw :][:, :, : y.shape[2], : y.shape[3]]

There is a product or two for each byte that is moved. The steps from there to here, and what each is for:

- a plane goes all the way before the next one: it is read once, and stays in a level 1 cache between zeros;
- the sums of `ROWS` rows of a vector of pixels stay in registers for all taps;
- the next plane of the source, and where the next results go, are fetched meanwhile.
"""

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.depthwise.cut import ROWS, DepthwiseCut
from minitrain.kernels.conv2d.depthwise.pack import Plane, copy_plane
from minitrain.kernels.conv2d.epilogue import finish
from minitrain.kernels.conv2d.memory import clear
from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, size_of
from nbnorm.simd.memory import flat, item, prefetch_for_store
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import lanes_of

__all__ = ["correlate_planes"]

_tile = make_tile(1, ROWS)
_splat, _add_outer, _offsets = _tile.splat_rows, _tile.add_outer, _tile.offsets
_store, _store_between = _tile.store_columns, _tile.store_columns_between

cut_of = record(DepthwiseCut)
# where in the row the offsets begin
PACKED_ROWS = size_of(DepthwiseCut)
TARGET_ROWS = PACKED_ROWS + ROWS
ROW_LENGTHS = TARGET_ROWS + ROWS
TAP_OFFSETS = ROW_LENGTHS + ROWS


class Tiling(NamedTuple):
    """The `ROWS` rows of a tile: their offsets in the packed plane and in the result, and their length; the taps."""

    packed_rows: Any
    target_rows: Any
    lengths: Any
    taps: Any


@device
def _tiling_of(row):
    taps = flat(row[TAP_OFFSETS:])
    return Tiling(_offsets(row, PACKED_ROWS), _offsets(row, TARGET_ROWS), _offsets(row, ROW_LENGTHS), taps)


@device
def _correlate_plane(scratch, plane, cut, tiling, packed, weights, target, y):
    """The results of one plane: sums over taps m of packed[weights + 1 + m] * its values, in scratch[plane:].

    They go to target[y:]. The last rows and the last vector of a row are moved back to end with the plane, if it is as
    large as they are. Meanwhile where the next plane of results goes is fetched.
    """
    height, width, lanes = cut.planes.out_height, cut.planes.out_width, lanes_of(target)
    for p in range(0, height, ROWS):
        p = max(0, min(p, height - ROWS))
        for v in range(0, width, lanes):
            v = max(0, min(v, width - lanes))
            x_tile, y_tile = plane + p * cut.packing.row + v, y + p * width + v
            acc = _splat(packed, weights)
            for m in range(cut.taps):
                tap = x_tile + item(tiling.taps, m)
                acc = _add_outer(acc, packed, weights + 1 + m, scratch, tiling.packed_rows, tap)
            for y_row in tiling.target_rows:
                prefetch_for_store(target, y_tile + height * width + y_row)
            if width >= lanes:
                _store(acc, target, y_tile, tiling.target_rows, 0)
            else:
                _store_between(acc, target, y_tile, tiling.target_rows, 0, tiling.lengths)


@device
def _correlate_share(worker, row, source, packed, residual, affine, relu, scratch, target):
    """The planes of one worker."""
    cut, tiling = cut_of(row), _tiling_of(row)
    height, width = cut.planes.height, cut.planes.width
    size, out_size = height * width, cut.planes.out_height * cut.planes.out_width
    plane = worker * cut.packing.size
    clear(scratch, plane, cut.packing.size)
    first = worker * cut.all_planes // cut.workers
    channel = first % cut.channels
    for index in range(first, (worker + 1) * cut.all_planes // cut.workers):
        copy_plane(Plane(source, index * size, height, width, size), scratch, plane + cut.packing.first,
                   cut.packing.row)  # fmt: skip
        y = index * out_size
        _correlate_plane(scratch, plane, cut, tiling, packed, channel * (1 + cut.taps), target, y)
        finish(residual, relu, affine, channel, y, out_size, 1, out_size, target)
        channel = channel + 1 if channel + 1 < cut.channels else 0


@kernel
def correlate_planes(row, source, packed, residual, affine, relu, scratch, target):
    """Overwrite target (images, channels, out_height, out_width) from source (images, channels, height, width).

    See `Depthwise` for the row. packed: for each channel its bias and its taps. The residual, ReLU and affine: see
    `finish`.
    """
    row, source, packed, residual = flat(row), flat(source), flat(packed), flat(residual)
    affine, scratch, target = flat(affine), flat(scratch), flat(target)
    for worker in prange(cut_of(row).workers):
        _correlate_share(np.intp(worker), row, source, packed, residual, affine, relu, scratch, target)
