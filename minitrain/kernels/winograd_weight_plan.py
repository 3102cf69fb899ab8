"""From the shapes of a convolution to the integers that the Winograd form of the weight gradient works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d_plan import TASKS, Integers, Table, rounded
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d_geometry import Conv2dGeometry

__all__ = ["WinogradWeight", "plan_winograd_weight"]

OUTPUTS, INPUTS = 4, 6  # pixels of a tile of the result and of the source, in either direction
POINTS = INPUTS * INPUTS
SUMS_VALUES = 80 * 1024  # of a task: they share a level 2 cache with the panels
PANEL_VALUES = 112 * 1024  # of transformed tiles of x and dy together
BLOCK = 64  # channels and outputs of a task, at most
BUFFER_VALUES = 4 * 1024  # of a vector of channels of x in a band: it stays in a level 1 cache
PARTIAL_VALUES = 512 * 1024  # of all chunks' sums


class WinogradWeight(NamedTuple):
    """What `sum_winograd` does.

    `problem`: images, channels, outputs, workers. `planes`: height and width of x and of dy, padding of rows and of
    columns. `blocks`: chunks, channels and outputs of a task (whole vectors), tiles of a panel, rows of tiles in a band,
    tiles in a row. `places`: where the workers' scratch begins, its size, and in it packed dy and the panels of x and
    dy; size of a task's sums. Where each pixel of x and of dy goes in its buffer.
    """

    problem: Integers
    planes: Integers
    blocks: Integers
    places: Integers
    x_places: Table
    dy_places: Table
    scratch: int


def plan_winograd_weight(g: Conv2dGeometry) -> WinogradWeight:
    """Plan the weight gradient of a 3 x 3 convolution with stride 1."""
    (images, channels, height, width), (_, outs, out_height, out_width) = g.input_shape, g.output_shape
    channel_block, out_block = _even(rounded(channels), BLOCK), _even(rounded(outs), BLOCK)
    while POINTS * channel_block * out_block > SUMS_VALUES and out_block > LANES_FLOAT32:
        out_block = _even(out_block, out_block // 2)
    others = -(-channels // channel_block) * -(-outs // out_block)
    sums = POINTS * (channel_block * out_block + LANES_FLOAT32)
    tasks = TASKS if others * TASKS * sums <= PARTIAL_VALUES else TASKS // 2
    chunks = max(1, min(images, -(-tasks // others)))
    tile_rows, tile_columns = -(-out_height // OUTPUTS), -(-out_width // OUTPUTS)
    most = max(tile_columns, PANEL_VALUES // (POINTS * (channel_block + out_block)))
    band = min(tile_rows, most // tile_columns, max(1, BUFFER_VALUES // (16 * tile_columns * LANES_FLOAT32)))
    band = -(-tile_rows // -(-tile_rows // band))
    per_chunk = -(-images // chunks) * tile_rows * tile_columns
    tiles = min(most // (band * tile_columns) * band * tile_columns, -(-per_chunk // (band * tile_columns)) * band * tile_columns)
    columns = OUTPUTS * tile_columns
    x_size = (OUTPUTS * band + 2) * (columns + 2) * LANES_FLOAT32
    dy_size = OUTPUTS * band * columns * LANES_FLOAT32
    panels = tuple(POINTS * (tiles * size + LANES_FLOAT32) for size in (channel_block, out_block))
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    dy_at = x_size
    x_panel = dy_at + dy_size
    worker = x_panel + sum(panels)
    rows, places = np.indices((height, width)).reshape(2, -1)
    dy_rows, dy_places = np.indices((out_height, out_width)).reshape(2, -1)
    first = others * chunks * sums
    return WinogradWeight(
        (images, channels, outs, workers),
        (height, width, out_height, out_width, *g.padding),
        (chunks, channel_block, out_block, tiles, band, tile_columns),
        (first, worker, dy_at, x_panel, x_panel + panels[0], sums),
        (rows * (columns + 2) + places + g.padding[1]) * LANES_FLOAT32,
        (dy_rows * columns + dy_places) * LANES_FLOAT32,
        first + workers * worker,
    )


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be, in whole vectors."""
    return rounded(-(-size // -(-size // most)))
