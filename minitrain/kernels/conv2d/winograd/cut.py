"""From the shapes of a convolution to the integers that the kernel of Winograd's convolution works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d.cutting import Row as Table
from minitrain.kernels.conv2d.cutting import rounded
from minitrain.kernels.conv2d.winograd.transforms import POINTS, TILE, WINDOW
from minitrain.kernels.conv2d.winograd.weights import step_of_weights
from nbnorm.kernels.batch_norm.moments import MOMENTS
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["ROWS", "Winograd", "fits", "pays", "plan_winograd"]

# tiles whose products with two vectors of outputs are made at a time: enough to keep all multipliers busy
ROWS = 8 if VECTOR_BYTES == 64 else 4
STRIP_VALUES = 36 * 1024  # of a strip of tiles at all points: 144 KiB, which stay in a level 2 cache beside weights
FETCH_VALUES = 256 * 1024  # of source and result: as many as this stay in the cache from call to call
FETCH_WEIGHTS = 80 * 1024  # the most beside which there is room for what is fetched ahead
LEAST_TILES = 32  # of a strip, however many its channels are, where an image has them
FEWEST_TILES = 16  # to which images are cut for the sake of tasks
LEAST_PIXELS = 1024  # of all images: fewer do not make enough strips for several threads
WEIGHTS_PER_PIXEL = 256  # times 9: with more, too much time goes into transforming the weights
LEAST_CHANNELS = 8  # and outputs: with fewer, too much time goes into transforming the others
LEAST_FILLED = 0.55  # of the channels in vectors, times the outputs in vectors: the others are multiplied for nothing
TASKS = 16  # make at least as many where the shapes allow it


class Winograd(NamedTuple):
    """What `run_winograd` does, in units of vectors (of `lanes` channels) where nothing else is said.

    `table` has, one after the other:

    - images, channels, outputs, workers;
    - height and width of the source, of the result, padding of rows and of columns;
    - images and rows of tiles of a strip, columns of tiles, width of a packed row, whether arrays are fetched ahead;
    - in values: the size of a worker's scratch, in it the step from one point to the next in the strip, where the
      packed plane begins, the results before they are transposed, and the products' operands;
    - in values: the place of each pixel of a plane in its packed form.

    `weights` is the table of `transform_weights`, which writes `packed` values; `scratch` is that of all workers.
    `sums_shape` is that of the moments' parts: one for each strip and vector of outputs.
    """

    table: Table
    weights: Table
    packed: int
    scratch: int
    sums_shape: tuple[int, int, int, int]


def fits(g: Conv2dGeometry) -> bool:
    """Whether Winograd's kernels can do it: the form is right, and a plane has a vector of pixels to transpose."""
    form = (g.kernel, g.stride, g.dilation, g.groups) == ((3, 3), (1, 1), (1, 1), 1) and max(g.padding) <= 2
    return form and min(height * width for _, _, height, width in (g.input_shape, g.output_shape)) >= LANES_FLOAT32


def pays(g: Conv2dGeometry) -> bool:
    """Whether Winograd's convolution can be used, and is faster than the direct one."""
    if not fits(g):
        return False
    channels, (_, outs, out_height, out_width) = g.input_shape[1], g.output_shape
    if g.input_shape[0] * out_height * out_width < max(LEAST_PIXELS, channels * outs // WEIGHTS_PER_PIXEL):
        return False
    if min(channels, outs) < LEAST_CHANNELS:
        return False
    filled = -(-channels // LANES_FLOAT32) * -(-outs // LANES_FLOAT32) * LANES_FLOAT32**2
    return channels * outs >= LEAST_FILLED * filled


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
    block, band = _strip(images, tile_rows, tile_columns, most, min(width, out_width) >= lanes)
    values = images * (channels * height * width + outs * out_height * out_width)
    tiles = -(-block * band * tile_columns // ROWS) * ROWS
    bands = -(-tile_rows // band)
    row = tile_columns * TILE + WINDOW - TILE
    slack = 2 if bands > 1 else 0  # what is transposed may reach beyond the rows of a band
    packed = (band * TILE + WINDOW - TILE + slack) * row * lanes
    unpacked = ((band * TILE) * out_width + TILE * out_width + TILE) * lanes
    point = (tiles * max(in_blocks, out_blocks) | 1) * lanes  # odd: neighbours do not compete for lines of the cache
    plane_at = POINTS * point
    unpacked_at = plane_at + packed
    operands_at = unpacked_at + unpacked
    size = rounded(operands_at + ROWS * in_blocks * lanes)
    strips = -(-images // block) * bands
    workers = min(numba.config.NUMBA_NUM_THREADS, strips)
    step = step_of_weights(in_blocks, out_blocks, lanes)
    rows, columns = np.indices((height, width)).reshape(2, -1)
    numbers = (
        images, channels, outs, workers, height, width, out_height, out_width, *padding,
        block, band, tile_columns, row, int(values > FETCH_VALUES and POINTS * step <= FETCH_WEIGHTS),
        size, point, plane_at, unpacked_at, operands_at,
    )  # fmt: skip
    return Winograd(
        np.concatenate([numbers, ((rows + padding[0]) * row + columns + padding[1]) * lanes]).astype(np.int64),
        np.array([outs, channels, *weights, *(np.arange(area) * step)], np.int64),
        POINTS * step + out_blocks * lanes,
        workers * size,
        (strips, out_blocks, MOMENTS, lanes),
    )


def _strip(images: int, rows: int, columns: int, most: int, can_cut: bool) -> tuple[int, int]:
    """Images and rows of tiles of a strip: at most `most` tiles where one image or one row allow it.

    Of the strips that leave enough tasks, the one that fills the register tiles of `ROWS` tiles best.
    """
    tiles = rows * columns
    parts = max(-(-tiles // most), min(-(-TASKS // images), tiles // FEWEST_TILES))
    if parts > 1 and can_cut:
        bands = range(1, max(1, rows // parts) + 1)
        return 1, min(bands, key=lambda band: (_waste(rows, band, columns), -band))
    longest = max(1, min(most // tiles, max(images // TASKS, -(-ROWS // tiles)), images))
    return min(range(1, longest + 1), key=lambda block: (_waste(images, block, tiles), -block)), rows


def _waste(size: int, part: int, tiles: int) -> int:
    """Tiles with what fills them up, where `size` times `tiles` are cut into parts of `part` times as many."""
    whole, rest = divmod(size, part)
    return whole * -(-part * tiles // ROWS) + -(-rest * tiles // ROWS)
