"""From the shapes of a convolution to the integers that `sum_outer_products` works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d.direct.cut import TASKS, Integers, Table, rounded
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["OuterProducts", "pays_to_transpose", "plan_outer_products"]

CHUNK_PIXELS = 4096  # as many are summed by one task where there are enough of them
PARTIAL_VALUES = 2 * 1024 * 1024  # sums of all chunks together
BAND_VALUES = 96 * 1024  # of x and of dy with channels last: they stay in a level 2 cache
PIXEL_BLOCK = 64  # pixels for which tiles are summed: what they read of x and dy stays in a level 1 cache
LEAST_TAPS = 64  # of all channels
OUT_BLOCK, CHANNEL_BLOCK = 64, 256  # outputs and channels of a task
TASK_VALUES = 32 * 1024  # sums of a task, which stay in a level 2 cache: with few taps there are more outputs


class OuterProducts(NamedTuple):
    """What `sum_outer_products` does.

    `problem`: images, groups, channels and outputs of a group, workers. `planes`: height and width of x, of dy.
    `steps`: rows of x from one row of dy to the next, rows of x that the kernel spans, rows of padding, size of a row
    of packed x, rows of dy in a band. `blocks`: chunks, channels and outputs of a task, pixels of a block. `places`:
    where the workers' scratch begins, its size, size of packed x, where in it packed dy begins, size of a task's sums.
    For each item size: where each of the `vectors` of a row of taps begins in packed x, relative to the pixel, and the
    place in dweight of each of their lanes, -1 for none. Where the first tap of an output's pixel is in packed x
    (`pixels`), where each pixel of x and of dy is to be put.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    steps: Integers
    blocks: Integers
    places: Integers
    vectors: dict[int, Table]
    lane_places: dict[int, Table]
    pixels: Table
    x_places: Table
    dy_places: Table
    scratch: int


def pays_to_transpose(g: Conv2dGeometry) -> bool:
    """Whether there are enough outputs for a tile, and enough channels and taps to use each transposed value often."""
    taps = g.weight_shape[1] * g.kernel[0] * g.kernel[1]
    return g.out_channels // g.groups >= _tile()[0] and taps >= LEAST_TAPS


def _tile() -> tuple[int, int]:
    """Tile of outputs by vectors of channels and taps: as large as the 32 or 16 registers allow."""
    return (8, 3) if VECTOR_BYTES == 64 else (4, 3)


def plan_outer_products(g: Conv2dGeometry) -> OuterProducts:
    """Plan the weight gradient where a group has at least as many outputs as a tile."""
    (images, _, height, width), (_, _, out_height, out_width), groups = g.input_shape, g.output_shape, g.groups
    outs, channels = g.out_channels // groups, g.weight_shape[1]
    tile = _tile()
    channel_block = _even(channels, CHANNEL_BLOCK)
    out_block = _even(outs, max(OUT_BLOCK, TASK_VALUES // (channel_block * g.kernel[0] * g.kernel[1])))
    row_size = channel_block * max(
        width + 2 * g.padding[1], (out_width - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1
    )
    reach = (g.kernel[0] - 1) * g.dilation[0] + 1
    per_row = max(g.stride[0] * row_size, out_width * out_block)
    bands = -(-out_height // max(1, (BAND_VALUES - (reach - g.stride[0]) * row_size) // per_row))
    band = -(-out_height // bands)
    others = groups * -(-channels // channel_block) * -(-outs // out_block)
    vectors, lane_places = {}, {}
    for size in (4, 8):
        vectors[size], lane_places[size] = _vectors_of_taps(g, channel_block, row_size, VECTOR_BYTES // size, tile[1])
    row_tiles, column_tiles = -(-out_block // tile[0]), -(-vectors[4].size // tile[1])
    sums = row_tiles * column_tiles * tile[0] * tile[1] * LANES_FLOAT32
    chunks = max(-(-images * out_height * out_width // CHUNK_PIXELS), -(-TASKS // others))
    chunks = max(1, min(chunks, 2 * TASKS, images, PARTIAL_VALUES // (others * sums)))
    overrun = (tile[1] + 1) * LANES_FLOAT32
    x_size = rounded(((band - 1) * g.stride[0] + reach) * row_size) + overrun
    dy_size = rounded(band * out_width * out_block) + overrun
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    places = (others * chunks * sums, x_size + dy_size, x_size, x_size, sums)
    rows, columns = np.indices((out_height, out_width)).reshape(2, -1)
    x_rows, x_columns = np.indices((height, width)).reshape(2, -1)
    return OuterProducts(
        tile,
        (images, groups, channels, outs, workers),
        (height, width, out_height, out_width),
        (g.stride[0], reach, g.padding[0], row_size, band),
        (chunks, channel_block, out_block, PIXEL_BLOCK),
        places,
        vectors,
        lane_places,
        rows * g.stride[0] * row_size + columns * g.stride[1] * channel_block,
        (x_rows + g.padding[0]) * row_size + (x_columns + g.padding[1]) * channel_block,
        np.arange(out_height * out_width) * out_block,
        places[0] + workers * places[1],
    )


def _vectors_of_taps(g: Conv2dGeometry, channels: int, row_size: int, lanes: int, least: int) -> tuple[Table, Table]:
    """Where vectors begin, and where their lanes belong: runs of all taps of a row, or of one if dilated."""
    (kh, kw), (down, right) = g.kernel, g.dilation
    taps = np.arange(kh * kw).reshape(kh, kw)
    places = np.arange(channels) * kh * kw + taps[:, :, None]
    runs = places.reshape(kh if right == 1 else kh * kw, -1)
    begins = (np.arange(kh) * down * row_size)[:, None] + (np.arange(kw) * right * channels)[: 1 if right == 1 else kw]
    padded = np.pad(runs, ((0, 0), (0, -runs.shape[1] % lanes)), constant_values=-1)
    vectors = begins.reshape(-1, 1) + np.arange(0, padded.shape[1], lanes)
    missing = max(0, least - vectors.size)
    return (
        np.pad(vectors.ravel(), (0, missing)).astype(np.int64),
        np.pad(padded.ravel(), (0, missing * lanes), constant_values=-1).astype(np.int64),
    )


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be."""
    return -(-size // -(-size // most))
