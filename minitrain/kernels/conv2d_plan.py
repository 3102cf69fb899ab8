"""From the shapes of a convolution to the integers that its kernels work from: tiles, bands, chunks, offsets.

Everything follows from the shapes and the width of the vectors alone; the number of threads only decides how many
workers get scratch of their own, which moves no result by a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from minitrain.kernels.conv2d_pack import OVERRUN
from minitrain.kernels.conv2d_weight import BLOCK_VECTORS
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d_geometry import Conv2dGeometry

__all__ = ["Correlation", "WeightGradient", "plan_forward", "plan_input_gradient", "plan_weight_gradient"]

BAND_VALUES = 64 * 1024  # of a packed band: 256 KiB in float32, which stays in a level 2 cache
BAND_PIXELS = 128  # fewer than this make too little use of weights that come from memory
TILE_VALUES = 5 * 1024  # of x that a tile reads: with the weights it fills most of a level 1 cache
CHUNK_PIXELS = 4096  # of the weight gradient: as many are summed by one task where there are enough of them
PARTIAL_VALUES = 2 * 1024 * 1024  # of the weight gradient: all chunks together
WASTE = 1.15  # more lanes than pixels, at most, for the sake of fewer copies of a plane
TASKS = 16  # make at least as many where the shapes allow it

Integers = tuple[int, ...]
Table = NDArray[np.int64]


class Correlation(NamedTuple):
    """What `correlate` does.

    The result consists of phases[0] x phases[1] interleaved phases (one, unless the stride of an input gradient makes
    more). Phase f has the (channel, tap) pairs starts[f] to starts[f + 1]: `offsets` in the packed planes, `indices`
    in the group's weights. `shifts` belongs to `pack`. `vectors` has, for each item size, the vectors of a band's
    pixels: all their places in the packed plane, all places in the result, all counts of lanes that are used; first
    for a whole band, then for the last one. `problem`: images, groups, channels and outputs of a group, workers.
    `planes`: height and width of the source, of the result and of one phase. `steps`: of rows and columns in the
    source, copies by row, rows of a band, rows and columns that are packed beyond its results, parts of the sums,
    whether nothing needs to be packed. `places`: strides of the weight (group, output), where the workers' scratch
    begins, its size, and where in it the temporary results begin.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    phases: Integers
    steps: Integers
    places: Integers
    shifts: Table
    vectors: dict[int, Table]
    offsets: Table
    indices: Table
    starts: Table
    scratch: int


class WeightGradient(NamedTuple):
    """What `sum_products` does.

    `problem`: images, groups, channels and outputs of a group, workers. `planes`: height and width of x, of dy.
    `steps`: of rows and columns in x, copies by row, rows and columns of a packed plane, whether
    nothing needs to be packed. `blocks`: chunks, then the size of a block of images, of channels, of outputs.
    `places`: where the workers' scratch begins, its size, and where in it the panel of dy and the sums begin.
    `vectors` is like that of a correlation, for a block of images; those of which only some lanes can be read follow
    the others. `offsets` of (channel, tap) in the packed planes.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    steps: Integers
    blocks: Integers
    places: Integers
    shifts: Table
    vectors: dict[int, Table]
    offsets: Table
    scratch: int


class _Copies(NamedTuple):
    """Copies along one axis: where each begins in the source, and for each tap its copy and its shift in that."""

    begins: list[int]
    taps: list[tuple[int, int]]

    @property
    def reach(self) -> int:
        return max(shift for _, shift in self.taps)


def _copies(begins: list[int], step: int, shared: bool = True) -> _Copies:
    """Taps that begin a multiple of the step apart share a copy, or every tap gets its own."""
    if not shared:
        return _Copies(begins, [(tap, 0) for tap in range(len(begins))])
    first = {begin % step: begin for begin in sorted(begins, reverse=True)}
    keys = list(first)
    taps = [(keys.index(begin % step), (begin - first[begin % step]) // step) for begin in begins]
    return _Copies(list(first.values()), taps)


def _shares_columns(columns: int) -> bool:
    """Whether one copy of a plane can serve all taps: vectors then end with their row, which wastes some lanes."""
    return _rounded(columns) <= WASTE * columns


def plan_forward(g: Conv2dGeometry) -> Correlation:
    """Plan the forward pass: tap (i, j) of row p meets row p * sh + i * dh - ph."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    images, _, height, width = g.input_shape
    out_height, out_width = g.output_shape[2:]
    rows = _copies([i * dh - ph for i in range(kh)], sh)
    columns = _copies([j * dw - pw for j in range(kw)], sw, _shares_columns(out_width))
    outs, channels = g.out_channels // g.groups, g.weight_shape[1]
    strides = (outs * channels * kh * kw, channels * kh * kw, kh * kw)
    planes = (height, width, out_height, out_width, out_height, out_width)
    taps = [[(i, j) for i in range(kh) for j in range(kw)]]
    return _correlation((images, g.groups, channels, outs), planes, (1, 1), (sh, sw), rows, columns, taps, strides)


def plan_input_gradient(g: Conv2dGeometry) -> Correlation:
    """Plan the input gradient: each residue of the stride is a correlation with stride 1.

    Row h = q * sh + a of the input meets tap i in row p of the output where p * sh = h + ph - i * dh.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    images, _, height, width = g.input_shape
    phases = (min(sh, height), min(sw, width))
    row_phases = [(i * dh - ph) % sh for i in range(kh)]
    column_phases = [(j * dw - pw) % sw for j in range(kw)]
    planes = (*g.output_shape[2:], height, width, -(-height // sh), -(-width // sw))
    rows = _copies([(a + ph - i * dh) // sh for i, a in enumerate(row_phases)], 1)
    begins = [(b + pw - j * dw) // sw for j, b in enumerate(column_phases)]
    columns = _copies(begins, 1, _shares_columns(planes[5]))
    taps = [
        [(i, j) for i in range(kh) for j in range(kw) if row_phases[i] == a and column_phases[j] == b]
        for a in range(phases[0])
        for b in range(phases[1])
    ]
    channels, outs = g.out_channels // g.groups, g.weight_shape[1]
    strides = (channels * outs * kh * kw, kh * kw, outs * kh * kw)
    return _correlation((images, g.groups, channels, outs), planes, phases, (1, 1), rows, columns, taps, strides)


def _correlation(
    problem: Integers,
    planes: Integers,
    phases: Integers,
    steps: Integers,
    row_copies: _Copies,
    column_copies: _Copies,
    taps: list[list[tuple[int, int]]],
    strides: Integers,
) -> Correlation:
    """Choose the tile and the bands; `taps` are pairs of (row, column) of the kernel, a list for each phase."""
    images, groups, channels, outs = problem
    tile = _tile_of_outer_products(outs)
    halo, gap = row_copies.reach, column_copies.reach
    rows, columns = planes[4:]
    copies = len(row_copies.begins) * len(column_copies.begins)
    several = phases[0] * phases[1] if phases != (1, 1) else 0
    values = channels * copies * (columns + gap) + outs * several * columns
    band = max(BAND_VALUES // values - halo, -(-BAND_PIXELS // columns))
    bands = max(-(-rows // band), min(-(-TASKS // (images * groups)), rows * columns // BAND_PIXELS))
    bands = max(1, bands)
    band = -(-rows // bands)
    shifts = row_copies.begins + column_copies.begins
    plane = (band + halo) * (columns + gap)
    # one band of single taps is read where it is: packed, it would look the same
    direct = int(bands == 1 and steps == (1, 1) and shifts == [0, 0] and planes[:2] == planes[2:4])
    # what a tile reads of x, and a little for vectors that lie across two lines of the cache
    lines = copies * (tile[1] * LANES_FLOAT32 + halo * (columns + gap) + LANES_FLOAT32)
    parts = -(-channels * lines // TILE_VALUES) if outs % tile[0] == 0 else 1
    channel_size = planes[0] * planes[1] if direct else copies * plane + OVERRUN
    offsets, indices = [], []
    for phase in taps:
        for channel in range(channels):
            for i, j in phase:
                (row_copy, row), (column_copy, column) = row_copies.taps[i], column_copies.taps[j]
                copy = row_copy * len(column_copies.begins) + column_copy
                offsets.append(channel * channel_size + copy * plane + row * (columns + gap) + column)
                indices.append(channel * strides[2] + i * len(column_copies.taps) + j)
    block = tile[1] * LANES_FLOAT32
    weights = groups * -(-outs // tile[0]) * tile[0] * (1 + len(offsets))
    packed = _rounded(channels * (copies * plane + OVERRUN) + block)
    temporary = _rounded(several * outs * band * columns + block) if several else 0
    workers = min(numba.config.NUMBA_NUM_THREADS, images * groups * -(-rows // band))
    places = (*strides[:2], _rounded(weights), packed + temporary, packed)
    return Correlation(
        tile,
        (*problem, workers),
        planes,
        phases,
        (*steps, len(row_copies.begins), band, halo, gap, parts, direct),
        places,
        _table(shifts),
        {size: _vectors(rows, band, columns, gap, VECTOR_BYTES // size, tile[1]) for size in (4, 8)},
        _table(offsets),
        _table(indices),
        channels * np.cumsum([0] + [len(phase) for phase in taps], dtype=np.int64),
        places[2] + workers * places[3],
    )


def plan_weight_gradient(g: Conv2dGeometry) -> WeightGradient:
    """Plan the weight gradient: the planes of x packed as for the forward pass, products summed over pixels."""
    forward = plan_forward(g)
    images, groups, channels, outs, _ = forward.problem
    height, width, rows, columns, *_ = forward.planes
    row_step, column_step, row_copies, band, halo, gap, _, direct = forward.steps
    tile = _tile_of_products(outs)
    pixels, taps = rows * columns, g.kernel[0] * g.kernel[1]
    copies = row_copies * (len(forward.shifts) - row_copies)
    plane, band_plane = (rows + halo) * (columns + gap), (band + halo) * (columns + gap)
    channel, band_channel = copies * plane + OVERRUN, copies * band_plane + OVERRUN
    count = len(_vectors(rows, rows, columns, gap, LANES_FLOAT32, 0)) // 6
    image_block = max(1, min(images, BLOCK_VECTORS // count))
    out_block = _even(outs, 64)
    channel_block = _even(channels, max(1, BAND_VALUES // (channel * image_block)))
    others = groups * -(-outs // out_block) * -(-channels // channel_block)
    chunks = max(-(-images * pixels // CHUNK_PIXELS), -(-TASKS // others))
    weight_size = groups * outs * channels * taps
    chunks = max(1, min(chunks, 2 * TASKS, -(-images // image_block), PARTIAL_VALUES // weight_size))
    # a tile reads as many channels as it has columns, which must all exist
    direct = int(direct and (channels - 1) % channel_block + 1 >= tile[1])
    pairs = forward.offsets[: channel_block * taps]
    if direct:
        offsets = pairs
    else:
        in_channel = pairs % band_channel
        offsets = pairs // band_channel * channel + in_channel // band_plane * plane + in_channel % band_plane
    offsets = np.append(offsets, np.zeros(max(0, tile[1] - offsets.size), dtype=np.int64))
    pitches = (groups * channels * height * width if direct else channel_block * channel, groups * outs * pixels)
    vectors = {
        size: _vectors_of_images(rows, columns, gap, VECTOR_BYTES // size, image_block, pitches, direct)
        for size in (4, 8)
    }
    packed = _rounded(image_block * channel_block * channel)
    out_tiles, pair_tiles = -(-out_block // tile[0]), -(-channel_block * taps // tile[1])
    panel = out_tiles * tile[0] * min(BLOCK_VECTORS + image_block, image_block * count) * LANES_FLOAT32
    sums = out_tiles * pair_tiles * _rounded(tile[0] * tile[1])
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    places = (_rounded(chunks * weight_size), packed + panel + sums, packed, packed + panel)
    return WeightGradient(
        tile,
        (images, groups, channels, outs, workers),
        (height, width, rows, columns),
        (row_step, column_step, row_copies, rows + halo, columns + gap, direct),
        (chunks, image_block, channel_block, out_block),
        places,
        forward.shifts,
        vectors,
        offsets,
        places[0] + workers * places[1],
    )


def _table(values: list[int]) -> Table:
    return np.array(values, dtype=np.int64)


def _vectors(rows: int, band: int, columns: int, gap: int, lanes: int, least: int) -> Table:
    """The table `vectors` of a correlation for vectors of this many lanes, at least `least` of them."""
    parts = []
    for height in (band, rows - (rows - 1) // band * band):
        length, lines = (columns, height) if gap else (columns * height, 1)
        line, column = (a.ravel() for a in np.meshgrid(range(lines), range(0, length, lanes), indexing="ij"))
        table = np.array([line * (length + gap) + column, line * length + column, np.minimum(lanes, length - column)])
        parts.append(np.pad(table, ((0, 0), (0, max(0, least - line.size)))).ravel())
    return np.concatenate(parts).astype(np.int64)


def _vectors_of_images(
    rows: int, columns: int, gap: int, lanes: int, images: int, pitches: Integers, partial_last: int
) -> Table:
    """The table `vectors` of a weight gradient: all that are used whole, image by image, then the others."""
    table = _vectors(rows, rows, columns, gap, lanes, 0)
    table = table[: table.size // 2].reshape(3, 1, -1).repeat(images, axis=1)
    table[:2] += np.array(pitches)[:, None, None] * np.arange(images)[:, None]
    whole = rows * columns // lanes if partial_last else table.shape[2]
    return np.concatenate([part.reshape(3, -1) for part in (table[..., :whole], table[..., whole:])], axis=1).ravel()


def _tile_of_outer_products(outs: int) -> tuple[int, int]:
    """Tile of outputs by vectors of pixels: as large as the 32 or 16 registers allow, no higher than the outputs."""
    if outs < 4:
        return 1, 6
    if VECTOR_BYTES < 64:
        return 4, 3
    return (8, 2) if outs >= 8 else (4, 4)


def _tile_of_products(outs: int) -> tuple[int, int]:
    """Tile of outputs by (channel, tap) pairs."""
    if outs < 4:
        return 1, 6
    if VECTOR_BYTES < 64:
        return 4, 3
    return 4, 6


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be."""
    return -(-size // -(-size // most))


def _rounded(size: int) -> int:
    """Up to a multiple of a vector, which keeps what follows aligned."""
    return -(-size // LANES_FLOAT32) * LANES_FLOAT32
