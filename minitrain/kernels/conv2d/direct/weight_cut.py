"""From the shapes of a convolution to the integers that `sum_products` works from: tiles, chunks, blocks, offsets."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, even, rounded, workers
from minitrain.kernels.conv2d.direct.cut import BAND_VALUES
from minitrain.kernels.conv2d.direct.records import (
    Packed,
    Problem,
    WeightBlocks,
    WeightGradientCut,
    WeightScratch,
    WeightTableOffsets,
)
from minitrain.kernels.conv2d.direct.segments import (
    Copies,
    Layout,
    forward_copies,
    layout_of,
    segments_of_copies,
    tap_offset,
)
from minitrain.kernels.conv2d.direct.tiles import weight_tile
from minitrain.kernels.conv2d.direct.vectors import vector_table, vectors_of_images
from minitrain.kernels.conv2d.direct.weight_gradient import BLOCK_VECTORS
from nbnorm.jit.records import row_of, size_of
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["WeightGradient", "cut_weight_gradient"]

# All numbers below: found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.

# Pixels that are summed by one task where there are enough of them. Above, there are too few tasks for all threads;
# below, more partial sums are written and added up.
CHUNK_PIXELS = 4096

# Values of the sums of all chunks together, at most: 8 MiB in float32. Above, adding them up is slower than what more
# tasks save; below, large weights leave threads without work.
PARTIAL_VALUES = 2 * 1024 * 1024

# Outputs of a block, for which a plane is packed once. Above, the panel of dy leaves the level 2 cache to nothing else;
# below, planes are packed more often.
OUT_BLOCK = 64


class WeightGradient(NamedTuple):
    """What `sum_products` does: the kernel's tile (outputs, (channel, tap) pairs) and the row of a `WeightGradientCut`.

    `scratch` is the size of what the workers and the chunks' sums need; it does not depend on the item size.
    """

    tile: tuple[int, int]
    row: Row
    scratch: int


def cut_weight_gradient(g: Geometry, itemsize: int) -> WeightGradient:
    """Cut the weight gradient: the planes of x packed as for the forward pass, products summed over pixels."""
    (images, _, height, width), (_, _, out_height, out_width), groups = g.input_shape, g.output_shape, g.groups
    outs, channels, taps = g.out_channels // groups, g.weight_shape[1], g.kernel[0] * g.kernel[1]
    problem = Problem(images, groups, channels, outs, height, width, out_height, out_width)
    rows, columns = forward_copies(g)
    layout, tile = layout_of(rows, columns, out_height, out_width), weight_tile(outs)
    blocks = _blocks(problem, taps, layout)
    # single taps are read where they are; a tile reads as many channels as it has columns, which must all exist
    in_place = g.kernel == (1, 1) and g.stride == (1, 1) and g.padding == (0, 0)
    in_place = in_place and (channels - 1) % blocks.channels + 1 >= tile[1]
    channel = height * width if in_place else layout.channel
    packed = Packed(*g.stride, layout.gap, channel, blocks.channels * channel, in_place)
    scratch = _scratch(problem, taps, layout, blocks, packed, tile)
    lanes = VECTOR_BYTES // itemsize
    tables = (
        segments_of_copies(rows, columns, height, width, layout, False, lanes),
        _vectors(problem, layout, blocks, packed, lanes),
        _offsets(g.kernel, rows, columns, layout, blocks.channels, channel, tile[1]),
    )
    begins = WeightTableOffsets(*accumulate((t.size for t in tables[:-1]), initial=size_of(WeightGradientCut)))
    row = row_of(WeightGradientCut(problem, taps, packed, blocks, scratch, begins), *tables)
    return WeightGradient(tile, row, scratch.workers + blocks.workers * scratch.worker)


def _vectors_of_image(layout: Layout, lanes: int) -> Row:
    return vector_table(layout.rows, layout.columns, layout.gap, lanes)


def _blocks(problem: Problem, taps: int, layout: Layout) -> WeightBlocks:
    images = max(1, min(problem.images, BLOCK_VECTORS // _vectors_of_image(layout, LANES_FLOAT32).shape[1]))
    outs = even(problem.outs, OUT_BLOCK)
    channels = even(problem.channels, max(1, BAND_VALUES // (layout.channel * images)))
    others = problem.groups * ceil_div(problem.outs, outs) * ceil_div(problem.channels, channels)
    pixels = problem.images * problem.out_height * problem.out_width
    wanted = max(ceil_div(pixels, CHUNK_PIXELS), ceil_div(TASKS, others))
    most = PARTIAL_VALUES // _weight_size(problem, taps)
    chunks = max(1, min(wanted, 2 * TASKS, ceil_div(problem.images, images), most))
    return WeightBlocks(workers(chunks * others), chunks, images, channels, outs)


def _weight_size(problem: Problem, taps: int) -> int:
    return problem.groups * problem.outs * problem.channels * taps


def _scratch(
    problem: Problem, taps: int, layout: Layout, blocks: WeightBlocks, packed: Packed, tile: tuple[int, int]
) -> WeightScratch:
    tile_rows, tile_columns = tile
    planes = rounded(blocks.images * packed.image)
    out_tiles, pair_tiles = ceil_div(blocks.outs, tile_rows), ceil_div(blocks.channels * taps, tile_columns)
    vectors = blocks.images * _vectors_of_image(layout, LANES_FLOAT32).shape[1]
    panel = out_tiles * tile_rows * min(BLOCK_VECTORS + blocks.images, vectors) * LANES_FLOAT32
    sums = out_tiles * pair_tiles * rounded(tile_rows * tile_columns)
    all_chunks = rounded(blocks.chunks * _weight_size(problem, taps))
    return WeightScratch(all_chunks, planes + panel + sums, planes, planes + panel)


def _vectors(problem: Problem, layout: Layout, blocks: WeightBlocks, packed: Packed, lanes: int) -> Row:
    """The vectors of a block of images: first all that can be read whole, image by image."""
    one = _vectors_of_image(layout, lanes)
    image = problem.groups * problem.channels * packed.channel if packed.in_place else packed.image
    result = problem.groups * problem.outs * problem.out_height * problem.out_width
    all_images = vectors_of_images(one, blocks.images, (image, result))
    whole = one.shape[1] - int(packed.in_place and one[2, -1] < lanes)
    parts = [part.reshape(3, -1) for part in np.split(all_images, [whole], axis=2)]
    return np.concatenate(parts, axis=1).ravel()


def _offsets(
    kernel: tuple[int, int], rows: Copies, columns: Copies, layout: Layout, channels: int, pitch: int, least: int
) -> Row:
    """Where each (channel, tap) pair finds its first pixel; at least as many pairs as a tile has."""
    of_taps = [tap_offset(rows, columns, (i, j), layout) for i in range(kernel[0]) for j in range(kernel[1])]
    offsets = [c * pitch + offset for c in range(channels) for offset in of_taps]
    return np.array(offsets + [0] * (least - len(offsets)), dtype=np.int64)
