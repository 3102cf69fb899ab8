"""From the shapes of a convolution to the integers that `correlate` works from: tiles, bands, offsets.

Everything follows from the shapes and the width of the vectors alone; the number of threads only decides how many
workers get scratch of their own, which moves no result by a bit.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, rounded, workers
from minitrain.kernels.conv2d.direct.records import Bands, Cut, Packed, Phases, Problem, Scratch, TableOffsets
from minitrain.kernels.conv2d.direct.segments import (
    Copies,
    Layout,
    forward_copies,
    layout_of,
    make_copies,
    segments_of_copies,
    shares_columns,
    tap_offset,
)
from minitrain.kernels.conv2d.direct.tiles import correlation_tile, fitting_tile, images_of_block
from minitrain.kernels.conv2d.direct.vectors import band_vectors, vector_table
from minitrain.kernels.conv2d.direct.weights import WeightCut
from nbnorm.jit.records import row_of, size_of
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["BAND_VALUES", "Correlation", "cut_forward", "cut_input_gradient"]

# All three: found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.

# Values of a packed band, 256 KiB in float32: it stays in a level 2 cache of 1 MiB beside the weights and the results.
# Above, packed planes are read from further away for every tile of outputs; below, more rows are packed twice, as the
# halo of two bands, and the weights are read more often.
BAND_VALUES = 64 * 1024

# Pixels of a band, at least. With fewer, weights that come from memory are used for too few products; with more, there
# are too few tasks where planes are small.
BAND_PIXELS = 128

# Values of x and of the weights of two tiles of outputs that are read in one chunk of a sum: 24 KiB, which fit into a
# level 1 cache of 32 KiB. Above, the next outputs find x in level 2 only; below, sums are stored and loaded more often.
TILE_VALUES = 6 * 1024

Tap = tuple[int, int]


class Correlation(NamedTuple):
    """What `correlate` does: the kernel's tile (outputs, vectors of pixels) and the row of a `Cut`.

    `weights` is the row of `pack_weights`; `packed` and `scratch` are the sizes of its result and of the workers'
    scratch, which do not depend on the item size.
    """

    tile: tuple[int, int]
    row: Row
    weights: Row
    packed: int
    scratch: int


class WeightPitches(NamedTuple):
    """From one group, output and channel of a correlation to the next in the weights."""

    group: int
    out: int
    channel: int


class Terms(NamedTuple):
    """The (channel, tap) pairs of all phases in the order in which they are summed.

    `offsets` are those of their first pixels in the packed planes, `weights` those in the weights of an output; chunk c
    of phase f has the pairs from starts[f * chunks + c] to the next start.
    """

    offsets: list[int]
    weights: list[int]
    starts: list[int]


def cut_forward(g: Geometry, itemsize: int) -> Correlation:
    """Cut the forward pass: tap (i, j) of row p meets row p * sh + i * dh - ph."""
    (images, _, height, width), (_, _, out_height, out_width), (kh, kw) = g.input_shape, g.output_shape, g.kernel
    outs, channels = g.out_channels // g.groups, g.weight_shape[1]
    problem = Problem(images, g.groups, channels, outs, height, width, out_height, out_width)
    phases = Phases(1, 1, out_height, out_width)
    taps = [[(i, j) for i in range(kh) for j in range(kw)]]
    pitches = WeightPitches(outs * channels * kh * kw, channels * kh * kw, kh * kw)
    return _cut(problem, phases, *forward_copies(g), taps, pitches, itemsize)


def cut_input_gradient(g: Geometry, itemsize: int) -> Correlation:
    """Cut the input gradient: each residue of the stride is a correlation with stride 1, a phase of the result.

    Row h = q * sh + a of the input meets tap i in row p of the output where p * sh = h + ph - i * dh.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    images, _, height, width = g.input_shape
    channels, outs = g.out_channels // g.groups, g.weight_shape[1]
    problem = Problem(images, g.groups, channels, outs, *g.output_shape[2:], height, width)
    phases = Phases(min(sh, height), min(sw, width), ceil_div(height, sh), ceil_div(width, sw))
    row_phases = [(i * dh - ph) % sh for i in range(kh)]
    column_phases = [(j * dw - pw) % sw for j in range(kw)]
    rows = make_copies([(a + ph - i * dh) // sh for i, a in enumerate(row_phases)], 1)
    begins = [(b + pw - j * dw) // sw for j, b in enumerate(column_phases)]
    columns = make_copies(begins, 1, shares_columns(phases.width))
    taps = [
        [(i, j) for i in range(kh) for j in range(kw) if row_phases[i] == a and column_phases[j] == b]
        for a in range(phases.rows)
        for b in range(phases.columns)
    ]
    pitches = WeightPitches(channels * outs * kh * kw, kh * kw, outs * kh * kw)
    return _cut(problem, phases, rows, columns, taps, pitches, itemsize)


def _cut(
    problem: Problem,
    phases: Phases,
    rows: Copies,
    columns: Copies,
    taps: list[list[Tap]],
    pitches: WeightPitches,
    itemsize: int,
) -> Correlation:
    """Choose the tile, the bands and the blocks of images; `taps` is a list for each phase."""
    height, bands = _rows_of_band(problem, phases, layout_of(rows, columns, 1, phases.width))
    layout = layout_of(rows, columns, height, phases.width)
    in_place = bands == 1 and _is_the_source(problem, rows, columns)
    tile = correlation_tile(problem.outs)
    chunks = _chunks_of_sum(problem, layout, tile, longest=max(len(phase) for phase in taps))
    source_plane = problem.height * problem.width
    image = problem.channels * layout.channel
    packed = Packed(
        rows.stride, columns.stride, layout.gap, source_plane if in_place else layout.channel, image, in_place
    )
    terms = _terms(problem, taps, chunks, rows, columns, layout, packed.channel, pitches.channel)
    vectors = vector_table(layout.rows, layout.columns, layout.gap, LANES_FLOAT32).shape[1]
    most = min(problem.images * problem.groups // TASKS, BAND_VALUES // image) if bands == 1 else 1
    block = images_of_block(vectors, tile[1], most)
    tile = fitting_tile(tile, vectors * block)
    image_pitch = problem.groups * problem.channels * source_plane if in_place else image
    scratch = _scratch(problem, phases, layout, block, max(image, image_pitch), tile)
    band_tasks = ceil_div(problem.images, block) * problem.groups * ceil_div(phases.height, height)
    splits = _splits(problem.outs, tile, band_tasks) if phases.number == 1 else 1
    tables = (
        segments_of_copies(rows, columns, problem.height, problem.width, layout, bands > 1, VECTOR_BYTES // itemsize),
        _vectors(problem, phases, layout, block, image_pitch, itemsize, tile),
        np.array(terms.offsets, dtype=np.int64),
        np.array(terms.starts, dtype=np.int64),
    )
    begins = TableOffsets(*accumulate((table.size for table in tables[:-1]), initial=size_of(Cut)))
    share = Bands(workers(band_tasks * splits), block, height, chunks, splits)
    tiles = ceil_div(problem.outs, tile[0])
    weight_cut = WeightCut(tile[0], problem.groups, problem.outs, pitches.group, pitches.out)
    return Correlation(
        tile,
        row_of(Cut(problem, phases, packed, share, scratch, begins), *tables),
        row_of(weight_cut, np.array(terms.weights, dtype=np.int64)),
        problem.groups * tiles * tile[0] * (1 + len(terms.offsets)),
        share.workers * scratch.worker,
    )


def _rows_of_band(problem: Problem, phases: Phases, one_row: Layout) -> tuple[int, int]:
    """Rows of results in a band, and how many bands there are."""
    rows, columns = phases.height, phases.width
    several = phases.number if phases.number > 1 else 0
    values_of_row = problem.channels * one_row.copies * one_row.row + problem.outs * several * columns
    band = max(BAND_VALUES // values_of_row - one_row.halo, ceil_div(BAND_PIXELS, columns))
    wanted = min(ceil_div(TASKS, problem.images * problem.groups), rows * columns // BAND_PIXELS)
    bands = max(1, ceil_div(rows, band), wanted)
    return ceil_div(rows, bands), bands


def _is_the_source(problem: Problem, rows: Copies, columns: Copies) -> bool:
    """Whether a whole packed plane would look like the source itself: single taps are read where they are."""
    planes_agree = (problem.height, problem.width) == (problem.out_height, problem.out_width)
    # a tap that reaches beyond would read the next plane, where a copy has zeros
    reach_nothing_else = rows.begins + columns.begins == [0, 0] and rows.reach == columns.reach == 0
    return (rows.stride, columns.stride) == (1, 1) and reach_nothing_else and planes_agree


def _chunks_of_sum(problem: Problem, layout: Layout, tile: tuple[int, int], longest: int) -> int:
    """Chunks that sums are cut into, so that what a tile reads in one of them stays in a level 1 cache."""
    if problem.outs % tile[0]:
        return 1
    tile_rows, tile_columns = tile
    # and a little for vectors that lie across two lines of the cache
    values = layout.copies * (tile_columns * LANES_FLOAT32 + layout.halo * layout.row + LANES_FLOAT32)
    return ceil_div(problem.channels * (values + 2 * tile_rows * longest), TILE_VALUES)


def _terms(
    problem: Problem,
    taps: list[list[Tap]],
    chunks: int,
    rows: Copies,
    columns: Copies,
    layout: Layout,
    channel_pitch: int,
    weight_pitch: int,
) -> Terms:
    offsets: list[int] = []
    weights: list[int] = []
    starts: list[int] = []
    for phase in taps:
        size = problem.channels * len(phase)
        starts += [len(offsets) + chunk * size // chunks for chunk in range(chunks)]
        of_taps = [tap_offset(rows, columns, tap, layout) for tap in phase]
        for channel in range(problem.channels):
            offsets += [channel * channel_pitch + offset for offset in of_taps]
            weights += [channel * weight_pitch + i * len(columns.taps) + j for i, j in phase]
    return Terms(offsets, weights, [*starts, len(offsets)])


def _scratch(
    problem: Problem, phases: Phases, layout: Layout, block: int, image: int, tile: tuple[int, int]
) -> Scratch:
    """Scratch of a worker: a packed block of images, then the results of all phases where there are several."""
    overrun = tile[1] * LANES_FLOAT32
    packed = rounded(image * block + overrun)
    results = block * phases.number * problem.outs * layout.rows * layout.columns
    return Scratch(packed + (rounded(results + overrun) if phases.number > 1 else 0), packed)


def _splits(outs: int, tile: tuple[int, int], tasks: int) -> int:
    """Parts that the outputs of a band are split into, where there are too few tasks."""
    tiles = ceil_div(outs, tile[0])
    # the last tile of outputs may reach back over the one before: the last part then gets both
    return max(1, min(ceil_div(TASKS, tasks), tiles // 2 if outs % tile[0] else tiles))


def _vectors(
    problem: Problem, phases: Phases, layout: Layout, block: int, image_pitch: int, itemsize: int, tile: tuple[int, int]
) -> Row:
    """The vectors of a whole band and block of images, then those of the last one."""
    results = problem.groups * problem.outs * problem.out_height * problem.out_width
    if phases.number > 1:
        results = phases.number * problem.outs * layout.rows * layout.columns
    last = phases.height - (phases.height - 1) // layout.rows * layout.rows, (problem.images - 1) % block + 1
    bands, lanes = ((layout.rows, block), last), VECTOR_BYTES // itemsize
    return band_vectors(bands, layout.columns, layout.gap, (image_pitch, results), lanes, tile[1])
