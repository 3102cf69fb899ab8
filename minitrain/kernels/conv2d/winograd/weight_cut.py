"""From the shapes of a convolution to the integers that the Winograd form of the weight gradient works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, rounded
from minitrain.kernels.conv2d.cutting import Row as Table
from minitrain.kernels.conv2d.winograd.transforms import POINTS, TILE
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["WinogradWeight", "pays_to_transform", "plan_winograd_weight"]

SUMS_VALUES = 80 * 1024  # of a task: they share a level 2 cache with the panels
PANEL_VALUES = 112 * 1024  # of transformed tiles of x and dy together
BLOCK = 64  # channels and outputs of a task, at most
BUFFER_VALUES = 4 * 1024  # of a vector of channels of x in a band: it stays in a level 1 cache
PARTIAL_VALUES = 512 * 1024  # of all chunks' sums


class WinogradWeight(NamedTuple):
    """What `sum_winograd` does.

    `problem`: images, channels, outputs, workers. `planes`: height and width of x and of dy, padding of rows and of
    columns. `blocks`: chunks, channels and outputs of a task (whole vectors), tiles of a panel, rows of tiles in a
    band, tiles in a row. `places`: where the workers' scratch begins, its size, in it the buffers of x and of dy and
    the panels of both; size of a task's sums. Where each pixel of x and of dy goes in its buffer, which has room for a
    band of a vector of channels.
    """

    problem: tuple[int, ...]
    planes: tuple[int, ...]
    blocks: tuple[int, ...]
    places: tuple[int, ...]
    x_places: Table
    dy_places: Table
    scratch: int


def pays_to_transform(g: Conv2dGeometry, plan: WinogradWeight) -> bool:
    """Whether it is faster, by times measured over channels from 8 to 256 and planes from 4 x 4 to 56 x 56.

    In units of a multiplication of the direct form: those of the points, the transforms of either side, and what each
    chunk does with its sums.
    """
    images, outs, height, width = g.output_shape
    channels = g.input_shape[1]
    whole_channels, whole_outs = rounded(channels), rounded(outs)
    tiles = images * -(-height // TILE) * -(-width // TILE)
    products = whole_channels * whole_outs
    cost = tiles * (3 * products + 89 * (whole_channels + whole_outs)) + 160 * plan.blocks[0] * products
    return cost < images * height * width * channels * outs


def plan_winograd_weight(g: Conv2dGeometry) -> WinogradWeight:
    """Plan the weight gradient of a convolution that `winograd_plan.fits`."""
    (images, channels, height, width), (_, outs, out_height, out_width) = g.input_shape, g.output_shape
    channel_block, out_block = _even(rounded(channels), BLOCK), _even(rounded(outs), BLOCK)
    while POINTS * channel_block * out_block > SUMS_VALUES and out_block > LANES_FLOAT32:
        out_block = _even(out_block, out_block // 2)
    others = -(-channels // channel_block) * -(-outs // out_block)
    sums = POINTS * (channel_block * out_block + LANES_FLOAT32)
    tasks = TASKS if others * TASKS * sums <= PARTIAL_VALUES else TASKS // 2
    chunks = max(1, min(images, -(-tasks // others)))
    tile_rows, tile_columns = -(-out_height // TILE), -(-out_width // TILE)
    most = max(tile_columns, PANEL_VALUES // (POINTS * (channel_block + out_block)))
    band = min(tile_rows, most // tile_columns, max(1, BUFFER_VALUES // (16 * tile_columns * LANES_FLOAT32)))
    band = -(-tile_rows // -(-tile_rows // band))
    per_chunk = -(-images // chunks) * tile_rows * tile_columns
    per_band = band * tile_columns
    tiles = min(most // per_band, -(-per_chunk // per_band)) * per_band
    columns = TILE * tile_columns
    row_sizes = (columns + 2) * LANES_FLOAT32, columns * LANES_FLOAT32
    # before the rows of a band, room for what is transposed with the first of them to make whole vectors
    x_at = -(-LANES_FLOAT32 // width) * row_sizes[0]
    dy_at = x_at + (TILE * band + 2) * row_sizes[0] + -(-LANES_FLOAT32 // out_width) * row_sizes[1]
    x_panel = dy_at + TILE * band * row_sizes[1]
    panels = tuple(POINTS * (tiles * size + LANES_FLOAT32) for size in (channel_block, out_block))
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    worker = x_panel + sum(panels)
    rows, places = np.indices((height, width)).reshape(2, -1)
    dy_rows, dy_places = np.indices((out_height, out_width)).reshape(2, -1)
    first = others * chunks * sums
    return WinogradWeight(
        (images, channels, outs, workers),
        (height, width, out_height, out_width, *g.padding),
        (chunks, channel_block, out_block, tiles, band, tile_columns),
        (first, worker, x_at, dy_at, x_panel, x_panel + panels[0], sums),
        rows * row_sizes[0] + (places + g.padding[1]) * LANES_FLOAT32,
        dy_rows * row_sizes[1] + dy_places * LANES_FLOAT32,
        first + workers * worker,
    )


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be, in whole vectors."""
    return rounded(-(-size // -(-size // most)))
