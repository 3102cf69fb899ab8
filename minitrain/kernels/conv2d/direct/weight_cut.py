"""From the shapes of a convolution to the integers that `sum_products` works from: tiles, chunks, blocks, offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d.direct.cut import (
    BAND_VALUES,
    TASKS,
    Integers,
    Table,
    forward_copies,
    rounded,
    table,
    tap_offset,
)
from minitrain.kernels.conv2d.direct.pack import OVERRUN
from minitrain.kernels.conv2d.direct.segments import segments_of_copies
from minitrain.kernels.conv2d.direct.vectors import vector_table, vectors_of_images
from minitrain.kernels.conv2d.direct.weight_gradient import BLOCK_VECTORS
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["WeightGradient", "plan_weight_gradient"]

CHUNK_PIXELS = 4096  # as many are summed by one task where there are enough of them
PARTIAL_VALUES = 2 * 1024 * 1024  # sums of all chunks together
OUT_BLOCK = 64  # outputs for which a plane is packed once


class WeightGradient(NamedTuple):
    """What `sum_products` does.

    `problem`: images, groups, channels and outputs of a group, workers. `planes`: height and width of x, of dy.
    `steps`: of columns in x, values of a packed channel, whether nothing needs to be packed. `blocks`: chunks, then
    the size of a block of images, of channels, of outputs. `places`: where the workers' scratch begins, its size, and
    where in it the panel of dy and the sums begin.
    `vectors` is like that of a correlation, for a block of images; those of which only some lanes can be read follow
    the others. `offsets` of (channel, tap) in the packed planes.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    steps: Integers
    blocks: Integers
    places: Integers
    segments: dict[int, Table]
    vectors: dict[int, Table]
    offsets: Table
    scratch: int


def plan_weight_gradient(g: Conv2dGeometry) -> WeightGradient:
    """Plan the weight gradient: the planes of x packed as for the forward pass, products summed over pixels."""
    (images, _, height, width), (_, _, rows, columns), groups = g.input_shape, g.output_shape, g.groups
    outs, channels, taps = g.out_channels // groups, g.weight_shape[1], g.kernel[0] * g.kernel[1]
    row_copies, column_copies = forward_copies(g)
    halo, gap = row_copies.reach, column_copies.reach
    tile = _tile(outs)
    pixels, plane = rows * columns, (rows + halo) * (columns + gap)
    channel = len(row_copies.begins) * len(column_copies.begins) * plane + OVERRUN
    count = vector_table(rows, columns, gap, LANES_FLOAT32).shape[1]
    image_block = max(1, min(images, BLOCK_VECTORS // count))
    out_block = _even(outs, OUT_BLOCK)
    channel_block = _even(channels, max(1, BAND_VALUES // (channel * image_block)))
    others = groups * -(-outs // out_block) * -(-channels // channel_block)
    chunks = max(-(-images * pixels // CHUNK_PIXELS), -(-TASKS // others))
    weight_size = groups * outs * channels * taps
    chunks = max(1, min(chunks, 2 * TASKS, -(-images // image_block), PARTIAL_VALUES // weight_size))
    # single taps are read where they are; a tile reads as many channels as it has columns, which must all exist
    direct = g.kernel == (1, 1) and g.stride == (1, 1) and g.padding == (0, 0)
    direct = direct and (channels - 1) % channel_block + 1 >= tile[1]
    if direct:
        channel = height * width
    kernel = [(i, j) for i in range(g.kernel[0]) for j in range(g.kernel[1])]
    in_channel = [tap_offset(row_copies, column_copies, tap, plane, columns + gap) for tap in kernel]
    offsets = [c * channel + place for c in range(channel_block) for place in in_channel]
    segments = segments_of_copies((height, width, columns), (rows, halo, gap), g.stride, 1, row_copies, column_copies)
    pitches = groups * channels * height * width if direct else channel_block * channel, groups * outs * pixels
    vectors = {}
    for size in (4, 8):
        one = vector_table(rows, columns, gap, VECTOR_BYTES // size)
        vectors[size] = _vectors_of_images(one, VECTOR_BYTES // size, image_block, pitches, direct)
    packed = rounded(image_block * channel_block * channel)
    out_tiles, pair_tiles = -(-out_block // tile[0]), -(-channel_block * taps // tile[1])
    panel = out_tiles * tile[0] * min(BLOCK_VECTORS + image_block, image_block * count) * LANES_FLOAT32
    sums = out_tiles * pair_tiles * rounded(tile[0] * tile[1])
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    places = (rounded(chunks * weight_size), packed + panel + sums, packed, packed + panel)
    return WeightGradient(
        tile,
        (images, groups, channels, outs, workers),
        (height, width, rows, columns),
        (g.stride[1], channel, int(direct)),
        (chunks, image_block, channel_block, out_block),
        places,
        segments,
        vectors,
        table(offsets + [0] * (tile[1] - len(offsets))),
        places[0] + workers * places[1],
    )


def _vectors_of_images(one: Table, lanes: int, images: int, pitches: Integers, direct: bool) -> Table:
    """The table `vectors` from that of one image: first all that can be read whole, image by image."""
    all_images = vectors_of_images(one, images, pitches)
    whole = one.shape[1] - int(direct and one[2, -1] < lanes)
    return np.concatenate([part.reshape(3, -1) for part in np.split(all_images, [whole], axis=2)], axis=1).ravel()


def _tile(outs: int) -> tuple[int, int]:
    """Tile of outputs by (channel, tap) pairs: as large as the 32 or 16 registers allow, no higher than the outputs."""
    if outs < 4:
        return 1, 6
    return (4, 6) if VECTOR_BYTES == 64 else (4, 3)


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be."""
    return -(-size // -(-size // most))
