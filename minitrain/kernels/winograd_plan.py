"""From the shapes of a convolution to the integers that the kernel of Winograd's convolution works from."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d_plan import Integers, Table, rounded
from minitrain.kernels.winograd_transforms import POINTS, TILE, WINDOW
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d_geometry import Conv2dGeometry

__all__ = ["PAIR_ROWS", "SINGLE_ROWS", "Winograd", "pays", "plan_winograd"]

# tiles of the products in registers: by two vectors of outputs, and by one where their number is odd
PAIR_ROWS, SINGLE_ROWS = (8, 16) if VECTOR_BYTES == 64 else (4, 8)
STRIP_VALUES = 72 * 1024  # of a strip of tiles at all points: 288 KiB, which stay in a level 2 cache beside weights
FETCH_WEIGHTS = 80 * 1024  # the most beside which there is room for what is fetched ahead
LEAST_TILES = 16  # of a strip, however many its channels are
LEAST_CHANNELS = 8  # of fewer, most lanes have nothing to do
TASKS = 16  # make at least as many where the shapes allow it


class Winograd(NamedTuple):
    """What `run_winograd` does, in units of vectors (of `lanes` channels) where nothing else is said.

    `problem`: images, channels, outputs, workers. `planes`: height and width of the source, of the result, padding of
    rows and of columns. `strips`: images, rows of tiles and tiles (filled up to whole register tiles) of a strip,
    columns of tiles, width of a packed row, whether arrays are fetched ahead. `weights`: strides in the array of the
    weights of an output and of a channel, first tap and step from tap to tap. `places`, in values: where the workers'
    scratch begins, its size; in it, from one point to the next in the strip, where the packed plane begins, the results
    before they are transposed, and the products' operands.
    `pixels`, in values: the place of each pixel of a plane in its packed form; `taps` those of the kernel's.
    """

    problem: Integers
    planes: Integers
    strips: Integers
    weights: Integers
    places: Integers
    pixels: Table
    taps: Table
    scratch: int


def pays(g: Conv2dGeometry) -> bool:
    """Whether Winograd's convolution can be used, and is faster than the direct one."""
    if g.kernel != (3, 3) or g.stride != (1, 1) or g.dilation != (1, 1) or g.groups != 1 or max(g.padding) > 2:
        return False
    (_, channels, height, width), (_, outs, out_height, out_width) = g.input_shape, g.output_shape
    if min(height * width, out_height * out_width) < LANES_FLOAT32:
        return False
    return min(channels, outs) >= LEAST_CHANNELS


def plan_winograd(g: Conv2dGeometry, gradient: bool) -> Winograd:
    """Plan the forward pass, or the input gradient: a convolution of dy with the kernels turned around."""
    images, channels, height, width = g.input_shape
    outs, padding, area = g.out_channels, g.padding, 9
    out_height, out_width = g.output_shape[2:]
    weights = (channels * area, area, 0, 1)
    if gradient:
        channels, outs, weights = outs, channels, (area, channels * area, area - 1, -1)
        height, width, out_height, out_width = out_height, out_width, height, width
        padding = (2 - padding[0], 2 - padding[1])
    lanes = LANES_FLOAT32
    in_blocks, out_blocks = -(-channels // lanes), -(-outs // lanes)
    tile_rows, tile_columns = -(-out_height // TILE), -(-out_width // TILE)
    most = max(LEAST_TILES, STRIP_VALUES // (POINTS * max(in_blocks, out_blocks) * lanes))
    step = SINGLE_ROWS if out_blocks % 2 else PAIR_ROWS
    block, band = _strip(images, tile_rows, tile_columns, most, step, min(width, out_width) >= lanes)
    tiles = -(-block * band * tile_columns // step) * step
    bands = -(-tile_rows // band)
    row = tile_columns * TILE + WINDOW - TILE
    slack = 2 if bands > 1 else 0  # what is transposed may reach beyond the rows of a band
    packed = (band * TILE + WINDOW - TILE + slack) * row * lanes
    unpacked = ((band * TILE) * out_width + TILE * out_width + TILE) * lanes
    point = (tiles * max(in_blocks, out_blocks) | 1) * lanes  # odd: neighbours do not compete for lines of the cache
    plane_at = POINTS * point
    unpacked_at = plane_at + packed
    operands_at = unpacked_at + unpacked
    size = rounded(operands_at + max(SINGLE_ROWS * in_blocks, 9) * lanes)
    workers = min(numba.config.NUMBA_NUM_THREADS, -(-images // block) * bands)
    prepared = POINTS * in_blocks * out_blocks * lanes * lanes
    first = rounded(prepared)
    # the weights are prepared by workers too, each of which needs a place for the taps of a vector of kernels
    rows, columns = np.indices((height, width)).reshape(2, -1)
    return Winograd(
        (images, channels, outs, workers),
        (height, width, out_height, out_width, *padding),
        (block, band, tiles, tile_columns, row, int(prepared <= FETCH_WEIGHTS)),
        weights,
        (first, size, point, plane_at, unpacked_at, operands_at),
        (((rows + padding[0]) * row + columns + padding[1]) * lanes).astype(np.int64),
        np.arange(area, dtype=np.int64) * lanes,
        first + workers * size,
    )


def _strip(images: int, rows: int, columns: int, most: int, step: int, can_cut: bool) -> tuple[int, int]:
    """Images and rows of tiles of a strip of at most `most` tiles, if one row and one image allow it.

    Several images make a multiple of `step` tiles, where there are enough of them.
    """
    if rows * columns > most and can_cut:
        bands = -(-rows // max(1, most // columns))
        return 1, -(-rows // bands)
    unit = step // gcd(step, rows * columns)
    block = min(most // (rows * columns), images // TASKS) // unit * unit
    return min(images, max(unit, block)), rows
