"""From the shapes of a convolution to the integers that the kernel of Winograd's convolution works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, rounded, workers
from minitrain.kernels.conv2d.winograd.transforms import BORDER, POINTS, TAPS, TILE
from minitrain.kernels.conv2d.winograd.weights import point_of_weights, row_of_weights
from nbnorm.jit.records import row_of
from nbnorm.kernels.batch_norm.moments import MOMENTS
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["ROWS", "Planes", "Problem", "Strips", "Winograd", "WinogradCut", "Workspace", "cut_winograd", "fits",
           "pays"]  # fmt: skip

# Tiles whose products with two vectors of outputs are made at a time: with them, 16 of 32 (8 of 16) registers hold
# sums. More leave no registers for operands; fewer do not keep the multipliers busy, which take 4 cycles for a product.
ROWS = 8 if VECTOR_BYTES == 64 else 4

# The following were found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon with level 2 caches of 2 MiB,
# 2026-11.

# Values of a strip of tiles at all points, at most (144 KiB). More, and strip, weights and what is fetched ahead push
# each other out of a level 2 cache; less, and all weights are read again for fewer products.
STRIP_VALUES = 36 * 1024
# Values of source and result above which the next strip's are fetched ahead (1 MiB). Fewer are in the cache from call
# to call, and asking for them costs time.
FETCH_VALUES = 256 * 1024
# Transformed weights, in values, up to which anything is fetched ahead (320 KiB). With more of them there is no room in
# a level 2 cache for what is fetched.
FETCH_WEIGHTS = 80 * 1024
# Tiles of a strip, at least, whatever `STRIP_VALUES` says of many channels, where an image has as many. Fewer do not
# repay reading all weights.
LEAST_TILES = 32
# Tiles down to which images are cut into strips for the sake of `TASKS`. Smaller strips lose more than a thread gains.
FEWEST_TILES = 16
# Pixels of all images from which on this pays. Fewer do not make enough strips for several threads.
LEAST_PIXELS = 1024
# Pixels of all images from which on this pays are also channels times outputs over this. With fewer pixels for each
# weight, transforming the weights takes longer than the saved products would.
WEIGHTS_PER_PIXEL = 256
# Channels, and outputs, from which on this pays. With fewer of one, transforming the others takes too much of the time.
LEAST_CHANNELS = 8
# Share of the products of whole vectors of channels and outputs that are wanted, from which on this pays. Below, the
# direct form wins, which does not multiply lanes that are filled up with 0.
LEAST_FILLED = 0.55


class Problem(NamedTuple):
    """What is convolved."""

    images: int
    channels: int
    outs: int
    in_vectors: int  # of channels, the last one filled up
    out_vectors: int  # of outputs, likewise


class Planes(NamedTuple):
    """The planes of the source and of the result, in pixels."""

    height: int
    width: int
    out_height: int
    out_width: int
    above: int  # padding
    left: int


class Strips(NamedTuple):
    """How the tiles are cut into strips: whole images, or a band of rows of tiles of one image."""

    images: int  # of a strip
    tile_rows: int  # of a strip
    tile_columns: int  # of an image
    bands: int  # of an image
    total: int  # of all images
    row_vectors: int  # from one row to the next of a packed plane
    fetches: bool  # whether what the next strip reads and writes is fetched ahead


class Workspace(NamedTuple):
    """A worker's own scratch, in values: what begins where."""

    size: int
    point: int  # from one point to the next of a strip
    strip: int  # tiles at all points: channels of the source, then outputs
    plane: int  # a vector of channels of the source, packed between zeros
    results: int  # a vector of outputs before it is transposed
    operands: int  # copies of the operands of a register tile


class WinogradCut(NamedTuple):
    """The row of `run_winograd`; behind it the offset of each pixel of a plane in its packed form, in values."""

    problem: Problem
    planes: Planes
    strips: Strips
    workspace: Workspace
    workers: int


class Winograd(NamedTuple):
    """What `run_winograd` needs for given shapes."""

    row: Row  # a `WinogradCut`, then the pixels' offsets
    weights: Row  # of `transform_weights`
    packed: int  # values that `transform_weights` writes
    scratch: int  # values for all workers together
    sums_shape: tuple[int, int, int, int]  # of the moments' parts: one for each strip and vector of outputs


def fits(g: Geometry) -> bool:
    """Whether Winograd's kernels can do it: the form is right, and a plane has a vector of pixels to transpose."""
    form = (g.kernel, g.stride, g.dilation, g.groups) == ((3, 3), (1, 1), (1, 1), 1) and max(g.padding) <= 2
    return form and min(height * width for _, _, height, width in (g.input_shape, g.output_shape)) >= LANES_FLOAT32


def pays(g: Geometry) -> bool:
    """Whether Winograd's convolution can be used, and is faster than the direct one."""
    if not fits(g):
        return False
    channels, (images, outs, out_height, out_width) = g.input_shape[1], g.output_shape
    if images * out_height * out_width < max(LEAST_PIXELS, channels * outs // WEIGHTS_PER_PIXEL):
        return False
    if min(channels, outs) < LEAST_CHANNELS:
        return False
    return channels * outs >= LEAST_FILLED * (rounded(channels) * rounded(outs))


def cut_winograd(g: Geometry, gradient: bool) -> Winograd:
    """Cut the forward pass, or the input gradient: a convolution of dy with the kernels turned around."""
    lanes = LANES_FLOAT32
    problem, planes = _sizes(g, gradient)
    strips = _strips(problem, planes)
    workspace = _workspace(problem, planes, strips)
    shared_by = workers(strips.total)
    pixel_rows, pixel_columns = np.indices((planes.height, planes.width)).reshape(2, -1)
    pixels = ((pixel_rows + planes.above) * strips.row_vectors + pixel_columns + planes.left) * lanes
    return Winograd(
        row_of(WinogradCut(problem, planes, strips, workspace, shared_by), pixels),
        row_of_weights(problem.outs, problem.channels, gradient),
        POINTS * point_of_weights(problem.in_vectors, problem.out_vectors, lanes) + problem.out_vectors * lanes,
        shared_by * workspace.size,
        (strips.total, problem.out_vectors, MOMENTS, lanes),
    )


def _sizes(g: Geometry, gradient: bool) -> tuple[Problem, Planes]:
    (images, channels), outs = g.input_shape[:2], g.out_channels
    source, result, padding = g.input_shape[2:], g.output_shape[2:], g.padding
    if gradient:
        channels, outs, source, result = outs, channels, result, source
        padding = TAPS - 1 - padding[0], TAPS - 1 - padding[1]
    vectors = (ceil_div(size, LANES_FLOAT32) for size in (channels, outs))
    return Problem(images, channels, outs, *vectors), Planes(*source, *result, *padding)


def _strips(problem: Problem, planes: Planes) -> Strips:
    lanes = LANES_FLOAT32
    tile_rows, tile_columns = ceil_div(planes.out_height, TILE), ceil_div(planes.out_width, TILE)
    most = max(LEAST_TILES, STRIP_VALUES // (POINTS * max(problem.in_vectors, problem.out_vectors) * lanes))
    can_cut = min(planes.width, planes.out_width) >= lanes
    images, band = _strip(problem.images, tile_rows, tile_columns, most, can_cut)
    bands = ceil_div(tile_rows, band)
    source, result = planes.height * planes.width, planes.out_height * planes.out_width
    values = problem.images * (problem.channels * source + problem.outs * result)
    weights = POINTS * point_of_weights(problem.in_vectors, problem.out_vectors, lanes)
    return Strips(
        images, band, tile_columns, bands,
        total=ceil_div(problem.images, images) * bands,
        row_vectors=tile_columns * TILE + BORDER,
        fetches=values > FETCH_VALUES and weights <= FETCH_WEIGHTS,
    )  # fmt: skip


def _workspace(problem: Problem, planes: Planes, strips: Strips) -> Workspace:
    lanes = LANES_FLOAT32
    tiles = ceil_div(strips.images * strips.tile_rows * strips.tile_columns, ROWS) * ROWS
    rows = strips.tile_rows * TILE
    slack = 2 if strips.bands > 1 else 0  # rows: what is transposed may reach beyond the rows of a band
    packed = (rows + BORDER + slack) * strips.row_vectors * lanes
    # the last tiles of a row and of a plane reach beyond them
    results = (rows * planes.out_width + TILE * planes.out_width + TILE) * lanes
    # odd, so that neighbours do not compete for lines of the cache
    point = (tiles * max(problem.in_vectors, problem.out_vectors) | 1) * lanes
    plane_begin = POINTS * point
    results_begin = plane_begin + packed
    operands_begin = results_begin + results
    size = rounded(operands_begin + ROWS * problem.in_vectors * lanes)
    return Workspace(size, point, 0, plane_begin, results_begin, operands_begin)


def _strip(images: int, rows: int, columns: int, most: int, can_cut: bool) -> tuple[int, int]:
    """Images and rows of tiles of a strip: at most `most` tiles where one image or one row allow it.

    Of the strips that leave enough tasks, the one that fills the register tiles of `ROWS` tiles best.
    """
    tiles = rows * columns
    shares = max(ceil_div(tiles, most), min(ceil_div(TASKS, images), tiles // FEWEST_TILES))
    if shares > 1 and can_cut:
        bands = range(1, max(1, rows // shares) + 1)
        return 1, min(bands, key=lambda band: (_register_tiles(rows, band, columns), -band))
    longest = max(1, min(most // tiles, max(images // TASKS, ceil_div(ROWS, tiles)), images))
    return min(range(1, longest + 1), key=lambda block: (_register_tiles(images, block, tiles), -block)), rows


def _register_tiles(size: int, share: int, tiles: int) -> int:
    """Register tiles of all strips, where `size` times `tiles` tiles are cut into shares of `share` times as many."""
    whole, rest = divmod(size, share)
    return whole * ceil_div(share * tiles, ROWS) + ceil_div(rest * tiles, ROWS)
