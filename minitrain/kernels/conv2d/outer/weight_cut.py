"""From the shapes of a convolution to the integers that `sum_outer_products` works from."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, even, rounded, workers
from minitrain.kernels.conv2d.outer.records import Blocks, Cut, Problem, Rows, Scratch, TableOffsets
from nbnorm.jit.records import row_of, size_of
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["OuterProducts", "cut_outer_products", "pays_to_transpose"]

# All numbers below: found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.

# Pixels that are summed by one task where there are enough of them. Above, there are too few tasks for all threads;
# below, more partial sums are written and added up.
CHUNK_PIXELS = 4096

# Values of the sums of all chunks together, at most: 8 MiB in float32. Above, adding them up is slower than what more
# tasks save; below, large weights leave threads without work.
PARTIAL_VALUES = 2 * 1024 * 1024

# Values of a band of x and of one of dy with channels last, each: 384 KiB in float32, which stay in a level 2 cache.
# Above, tiles read them from further away; below, more rows of x are transposed twice, as the overlap of two bands.
BAND_VALUES = 96 * 1024

# Pixels for which tiles are summed: what they read of x and dy stays in a level 1 cache. Above, it is read from level 2
# for each tile; below, sums are loaded and stored more often.
PIXEL_BLOCK = 64

# (channel, tap) pairs of a group, at least. With fewer, each transposed value is used too seldom, and the direct
# kernel, which does not transpose, is faster.
LEAST_TAPS = 64

# Outputs and channels of a task, at most. Above, there are too few tasks, and sums outgrow the level 2 cache; below, x
# is transposed more often for the same channels, dy for the same outputs.
OUT_BLOCK, CHANNEL_BLOCK = 64, 256

# Values of a task's sums, 128 KiB in float32, which stay in a level 2 cache: with few taps there are more outputs in a
# task. Above, sums leave the cache between two blocks of pixels; below, x is transposed for fewer outputs at a time.
TASK_VALUES = 32 * 1024


class OuterProducts(NamedTuple):
    """What `sum_outer_products` does: the kernel's tile (outputs, vectors of channels and taps) and the row of a `Cut`.

    `scratch` is the size of what the workers and the tasks' sums need; it does not depend on the item size.
    """

    tile: tuple[int, int]
    row: Row
    scratch: int


def pays_to_transpose(g: Geometry) -> bool:
    """Whether there are enough outputs for a tile, and enough channels and taps to use each transposed value often."""
    taps = g.weight_shape[1] * g.kernel[0] * g.kernel[1]
    return g.out_channels // g.groups >= _tile()[0] and taps >= LEAST_TAPS


def _tile() -> tuple[int, int]:
    """Tile of outputs by vectors of channels and taps: as large as the 32 or 16 registers allow."""
    return (8, 3) if VECTOR_BYTES == 64 else (4, 3)


def cut_outer_products(g: Geometry, itemsize: int) -> OuterProducts:
    """Cut the weight gradient where a group has at least as many outputs as a tile."""
    (images, _, height, width), (_, _, out_height, out_width), groups = g.input_shape, g.output_shape, g.groups
    outs, channels, taps = g.out_channels // groups, g.weight_shape[1], g.kernel[0] * g.kernel[1]
    problem, tile = Problem(images, groups, channels, outs, taps, height, width, out_height, out_width), _tile()
    channel_block = even(channels, CHANNEL_BLOCK)
    out_block = even(outs, max(OUT_BLOCK, TASK_VALUES // (channel_block * taps)))
    rows = _rows(g, channel_block, out_block)
    sums = _sums_of_task(g, channel_block, out_block, tile)
    others = groups * ceil_div(channels, channel_block) * ceil_div(outs, out_block)
    chunks = max(ceil_div(images * out_height * out_width, CHUNK_PIXELS), ceil_div(TASKS, others))
    chunks = max(1, min(chunks, 2 * TASKS, images, PARTIAL_VALUES // (others * sums)))
    blocks = Blocks(workers(chunks * others), chunks, channel_block, out_block, PIXEL_BLOCK)
    overrun = (tile[1] + 1) * LANES_FLOAT32
    x_size = rounded(((rows.band - 1) * rows.stride + rows.reach) * rows.pitch) + overrun
    dy_size = rounded(rows.band * out_width * out_block) + overrun
    scratch = Scratch(sums, others * chunks * sums, x_size + dy_size, x_size)
    tables = (
        *_vectors_of_taps(g, channel_block, rows.pitch, VECTOR_BYTES // itemsize, tile[1]),
        *_pixels(g, channel_block, out_block, rows.pitch),
    )
    begins = TableOffsets(*accumulate((table.size for table in tables[:-1]), initial=size_of(Cut)))
    row = row_of(Cut(problem, rows, blocks, scratch, begins), *tables)
    return OuterProducts(tile, row, scratch.workers + blocks.workers * scratch.worker)


def _rows(g: Geometry, channels: int, outs: int) -> Rows:
    """Rows of x with channels last, and as many rows of dy in a band as stay in the cache."""
    (height, width), (sh, sw), (dh, dw) = g.output_shape[2:], g.stride, g.dilation
    x_width = max(g.input_shape[3] + 2 * g.padding[1], (width - 1) * sw + (g.kernel[1] - 1) * dw + 1)
    pitch, reach = channels * x_width, (g.kernel[0] - 1) * dh + 1
    most = (BAND_VALUES - (reach - sh) * pitch) // max(sh * pitch, width * outs)
    bands = ceil_div(height, max(1, most))
    return Rows(sh, reach, g.padding[0], pitch, ceil_div(height, bands))


def _sums_of_task(g: Geometry, channels: int, outs: int, tile: tuple[int, int]) -> int:
    """Values of a task's sums, in whole tiles of float32; in float64 there are no more."""
    tile_rows, tile_columns = tile
    runs, length = _runs_of_taps(g)
    vectors = max(tile_columns, runs * ceil_div(length * channels, LANES_FLOAT32))
    return ceil_div(outs, tile_rows) * ceil_div(vectors, tile_columns) * tile_rows * tile_columns * LANES_FLOAT32


def _runs_of_taps(g: Geometry) -> tuple[int, int]:
    """How many runs the taps of a pixel make in packed x, and of how many taps: of a row, or of one if dilated."""
    kh, kw = g.kernel
    return (kh, kw) if g.dilation[1] == 1 else (kh * kw, 1)


def _vectors_of_taps(g: Geometry, channels: int, row_pitch: int, lanes: int, least: int) -> tuple[Row, Row]:
    """Where the vectors of all runs begin, and the offsets of their lanes in dweight; at least so many vectors."""
    (kh, kw), (down, right), (count, length) = g.kernel, g.dilation, _runs_of_taps(g)
    taps = np.arange(kh * kw).reshape(kh, kw)
    weights = np.arange(channels) * kh * kw + taps[:, :, None]
    runs = weights.reshape(count, -1)
    begins = (np.arange(kh) * down * row_pitch)[:, None] + (np.arange(kw) * right * channels)[: kw // length]
    padded = np.pad(runs, ((0, 0), (0, -runs.shape[1] % lanes)), constant_values=-1)
    vectors = begins.reshape(-1, 1) + np.arange(0, padded.shape[1], lanes)
    missing = max(0, least - vectors.size)
    return (
        np.pad(vectors.ravel(), (0, missing)).astype(np.int64),
        np.pad(padded.ravel(), (0, missing * lanes), constant_values=-1).astype(np.int64),
    )


def _pixels(g: Geometry, channels: int, outs: int, row_pitch: int) -> tuple[Row, Row, Row]:
    """Where the first tap of each pixel of dy is in packed x, and where each pixel of x and of dy is packed."""
    rows, columns = np.indices(g.output_shape[2:]).reshape(2, -1)
    x_rows, x_columns = np.indices(g.input_shape[2:]).reshape(2, -1)
    return (
        rows * g.stride[0] * row_pitch + columns * g.stride[1] * channels,
        (x_rows + g.padding[0]) * row_pitch + (x_columns + g.padding[1]) * channels,
        np.arange(rows.size) * outs,
    )
