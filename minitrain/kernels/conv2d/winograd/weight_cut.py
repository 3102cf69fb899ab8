"""From the shapes of a convolution to the integers that the Winograd form of the weight gradient works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, even, rounded, workers
from minitrain.kernels.conv2d.winograd.cut import Planes
from minitrain.kernels.conv2d.winograd.transforms import BORDER, POINTS, TILE
from nbnorm.jit.records import row_of
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["Blocks", "Memory", "WinogradWeight", "WinogradWeightCut", "cut_winograd_weight", "pays_to_transform"]

# The following were found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon with level 2 caches of 2 MiB,
# 2026-11.

# Values of a task's sums at all points, at most (320 KiB). More, and they push the panels out of a level 2 cache;
# fewer, and tiles are transformed again for more blocks of channels or outputs.
SUMS_VALUES = 80 * 1024
# Values of both panels of transformed tiles, at most (448 KiB). More do not stay in a level 2 cache beside the sums;
# fewer, and the sums are loaded and stored for fewer products.
PANEL_VALUES = 112 * 1024
# Channels, and outputs, of a task, at most. More make sums larger than `SUMS_VALUES`; fewer transform the other side
# again for each block.
BLOCK = 64
# Values of a vector of channels of x in a band (16 KiB). More do not stay in a level 1 cache between packing and
# transforming; with fewer, rows that two bands share are packed twice for less.
BUFFER_VALUES = 4 * 1024
# Values of all chunks' sums together above which there are half as many tasks (2 MiB). More cost more to clear, to
# write and to add than the threads gain.
PARTIAL_VALUES = 512 * 1024

# What the work costs, in units of what the direct form spends on a pixel, a channel and an output: nine products.
# Fitted to times of both forms over channels from 8 to 256 and planes from 4 x 4 to 56 x 56, on 4 cores of an AVX-512
# Xeon, 2026-11. Larger ones leave more convolutions to the direct form; `benchmarks.peers conv` times some of them.
PRODUCTS_COST = 3  # the 36 products of a tile, a channel and an output: the direct form spends 16 on them
TRANSFORM_COST = 89  # a tile of one channel of x, or of one output of dy: packing and transforming it
CHUNK_COST = 160  # the sums of a chunk for a channel and an output: clearing them and adding them to the others


class Blocks(NamedTuple):
    """How the sums are cut into tasks, and the tiles of a task into bands and panels."""

    images: int
    channels: int  # of x
    outs: int  # of dy
    chunks: int  # of images
    channel_block: int  # channels of a task, whole vectors
    out_block: int  # outputs of a task, whole vectors
    channel_blocks: int
    out_blocks: int
    tile_rows: int  # of a band
    tile_columns: int  # of a plane
    tiles: int  # of a panel, whole bands


class Memory(NamedTuple):
    """In values: where the workers' scratch begins behind all tasks' sums, what is where in it, and sizes."""

    workers: int
    size: int  # of a worker's scratch
    x_buffer: int  # a band of a vector of channels of x between zeros
    dy_buffer: int  # likewise of a vector of outputs of dy
    x_panel: int  # [point][tile][channel]
    dy_panel: int  # [point][tile][output]
    x_row: int  # from row to row of the buffer
    dy_row: int
    sums: int  # size of a task's sums


class WinogradWeightCut(NamedTuple):
    """The row of `sum_winograd`; behind it the offset of each pixel of x, then of dy, in its buffer, in values."""

    planes: Planes
    blocks: Blocks
    memory: Memory
    workers: int


class WinogradWeight(NamedTuple):
    """What `sum_winograd` needs for given shapes."""

    row: Row  # a `WinogradWeightCut`, then the pixels' offsets
    scratch: int  # values
    chunks: int  # of images


def pays_to_transform(g: Geometry, cut: WinogradWeight) -> bool:
    """Whether it is faster than the direct form."""
    images, outs, height, width = g.output_shape
    channels = g.input_shape[1]
    whole_channels, whole_outs = rounded(channels), rounded(outs)
    tiles = images * ceil_div(height, TILE) * ceil_div(width, TILE)
    products = whole_channels * whole_outs
    cost = tiles * (PRODUCTS_COST * products + TRANSFORM_COST * (whole_channels + whole_outs))
    cost += CHUNK_COST * cut.chunks * products
    return cost < images * height * width * channels * outs


def cut_winograd_weight(g: Geometry) -> WinogradWeight:
    """Cut the weight gradient of a convolution that `cut.fits`."""
    planes = Planes(*g.input_shape[2:], *g.output_shape[2:], *g.padding)
    blocks = _blocks(g)
    tasks = blocks.chunks * blocks.channel_blocks * blocks.out_blocks
    memory = _memory(planes, blocks)
    shared_by = workers(tasks)
    x_rows, x_columns = np.indices((planes.height, planes.width)).reshape(2, -1)
    dy_rows, dy_columns = np.indices((planes.out_height, planes.out_width)).reshape(2, -1)
    row = row_of(
        WinogradWeightCut(planes, blocks, memory, shared_by),
        x_rows * memory.x_row + (x_columns + planes.left) * LANES_FLOAT32,
        dy_rows * memory.dy_row + dy_columns * LANES_FLOAT32,
    )
    return WinogradWeight(row, memory.workers + shared_by * memory.size, blocks.chunks)


def _blocks(g: Geometry) -> Blocks:
    images, channels = g.input_shape[:2]
    outs, out_height, out_width = g.output_shape[1:]
    channel_block, out_block = rounded(even(rounded(channels), BLOCK)), rounded(even(rounded(outs), BLOCK))
    while POINTS * channel_block * out_block > SUMS_VALUES and out_block > LANES_FLOAT32:
        out_block = rounded(even(out_block, out_block // 2))
    channel_blocks, out_blocks = ceil_div(channels, channel_block), ceil_div(outs, out_block)
    others = channel_blocks * out_blocks
    sums = _sums_of_task(channel_block, out_block)
    tasks = TASKS if others * TASKS * sums <= PARTIAL_VALUES else TASKS // 2
    chunks = max(1, min(images, ceil_div(tasks, others)))
    tile_rows, tile_columns = ceil_div(out_height, TILE), ceil_div(out_width, TILE)
    most = max(tile_columns, PANEL_VALUES // (POINTS * (channel_block + out_block)))
    band = min(tile_rows, most // tile_columns, max(1, BUFFER_VALUES // (TILE**2 * tile_columns * LANES_FLOAT32)))
    band = even(tile_rows, band)
    per_chunk = ceil_div(images, chunks) * tile_rows * tile_columns
    per_band = band * tile_columns
    tiles = min(most // per_band, ceil_div(per_chunk, per_band)) * per_band
    return Blocks(images, channels, outs, chunks, channel_block, out_block, channel_blocks, out_blocks, band,
                  tile_columns, tiles)  # fmt: skip


def _memory(planes: Planes, blocks: Blocks) -> Memory:
    columns, rows = TILE * blocks.tile_columns, TILE * blocks.tile_rows
    x_row, dy_row = (columns + BORDER) * LANES_FLOAT32, columns * LANES_FLOAT32
    # before the rows of a band, room for what is transposed with the first of them to make whole vectors
    x_buffer = ceil_div(LANES_FLOAT32, planes.width) * x_row
    dy_buffer = x_buffer + (rows + BORDER) * x_row + ceil_div(LANES_FLOAT32, planes.out_width) * dy_row
    x_panel = dy_buffer + rows * dy_row
    dy_panel = x_panel + POINTS * (blocks.tiles * blocks.channel_block + LANES_FLOAT32)
    size = dy_panel + POINTS * (blocks.tiles * blocks.out_block + LANES_FLOAT32)
    sums = _sums_of_task(blocks.channel_block, blocks.out_block)
    begin = blocks.chunks * blocks.channel_blocks * blocks.out_blocks * sums
    return Memory(begin, size, x_buffer, dy_buffer, x_panel, dy_panel, x_row, dy_row, sums)


def _sums_of_task(channels: int, outs: int) -> int:
    """Values of a task's sums: a vector between the points lets them have all of a cache."""
    return POINTS * (channels * outs + LANES_FLOAT32)
