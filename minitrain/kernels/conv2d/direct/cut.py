"""From the shapes of a convolution to the integers that `correlate` works from: tiles, bands, offsets.

Everything follows from the shapes and the width of the vectors alone; the number of threads only decides how many
workers get scratch of their own, which moves no result by a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from minitrain.kernels.conv2d.direct.pack import OVERRUN
from minitrain.kernels.conv2d.direct.segments import segments_of_copies
from minitrain.kernels.conv2d.direct.table import joined
from minitrain.kernels.conv2d.direct.vectors import band_vectors, vector_table
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["Copies", "Correlation", "plan_forward", "plan_input_gradient"]

BAND_VALUES = 64 * 1024  # of a packed band: 256 KiB in float32, which stays in a level 2 cache
BAND_PIXELS = 128  # fewer than this make too little use of weights that come from memory
TILE_VALUES = 6 * 1024  # of x and of the weights of two tiles: they fit into a level 1 cache
WASTE = 1.15  # more lanes than pixels, at most, for the sake of fewer copies of a plane
TILE_WASTE = 1.04  # more vectors in tiles than in a block of images, where more images can avoid that
NARROW_TILE_WASTE = 1.1  # from here on a narrower tile is better: that of one small image
NARROWER = {(8, 3): (8, 2)}  # as high, so that both read the same packed weights
TASKS = 16  # make at least as many where the shapes allow it

Integers = tuple[int, ...]
Table = NDArray[np.int64]


class Correlation(NamedTuple):
    """What `correlate` does.

    `tables` has for each item size the row of integers that the kernel works from, in this order:

    problem: images, groups, channels and outputs of a group, workers. planes: height and width of the source, of the
    result and of one phase. phases: the result consists of phases[0] x phases[1] interleaved ones (one, unless the
    stride of an input gradient makes more). steps: of rows and columns in the source, values of a packed channel,
    images of a block, rows of a band, columns that are packed beyond its results, parts of the sums, whether nothing
    needs to be packed, parts that the outputs are split into. places: size of a worker's scratch, where in it the
    temporary results begin, size of a packed image. Then four tables: segments belong to `pack`. vectors are those of a
    band's pixels in a block of images: all their places in the packed planes, all places in the result, all counts of
    lanes that are used; first for a whole band or block, then for the last one. Part p of phase f has the
    (channel, tap) pairs from starts[f * parts + p] to the next start, whose `offsets` in the packed planes these are.

    `weights` is what `pack_weights` works from; `packed` and `scratch` are the sizes of its result and of the workers'
    scratch.
    """

    tile: tuple[int, int]
    tables: dict[int, Table]
    weights: Table
    packed: int
    scratch: int


class Copies(NamedTuple):
    """Copies along one axis: where each begins in the source, and for each tap its copy and its shift in that."""

    begins: list[int]
    taps: list[tuple[int, int]]

    @property
    def reach(self) -> int:
        return max(shift for _, shift in self.taps)


def _copies(begins: list[int], step: int, shared: bool = True) -> Copies:
    """Taps that begin a multiple of the step apart share a copy, or every tap gets its own."""
    if not shared:
        return Copies(begins, [(tap, 0) for tap in range(len(begins))])
    first = {begin % step: begin for begin in sorted(begins, reverse=True)}
    keys = list(first)
    taps = [(keys.index(begin % step), (begin - first[begin % step]) // step) for begin in begins]
    return Copies(list(first.values()), taps)


def _shares_columns(columns: int) -> bool:
    """Whether one copy of a plane can serve all taps: vectors then end with their row, which wastes some lanes."""
    return rounded(columns) <= WASTE * columns


def forward_copies(g: Conv2dGeometry) -> tuple[Copies, Copies]:
    """Copies of x by row and by column: tap (i, j) begins at row i * dh - ph, column j * dw - pw."""
    rows = _copies([i * g.dilation[0] - g.padding[0] for i in range(g.kernel[0])], g.stride[0])
    begins = [j * g.dilation[1] - g.padding[1] for j in range(g.kernel[1])]
    return rows, _copies(begins, g.stride[1], _shares_columns(g.output_shape[3]))


def plan_forward(g: Conv2dGeometry) -> Correlation:
    """Plan the forward pass: tap (i, j) of row p meets row p * sh + i * dh - ph."""
    kh, kw = g.kernel
    images, _, height, width = g.input_shape
    out_height, out_width = g.output_shape[2:]
    rows, columns = forward_copies(g)
    outs, channels = g.out_channels // g.groups, g.weight_shape[1]
    strides = (outs * channels * kh * kw, channels * kh * kw, kh * kw)
    planes = (height, width, out_height, out_width, out_height, out_width)
    taps = [[(i, j) for i in range(kh) for j in range(kw)]]
    return _correlation((images, g.groups, channels, outs), planes, (1, 1), g.stride, rows, columns, taps, strides)


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
    row_copies: Copies,
    column_copies: Copies,
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
    lines += 2 * tile[0] * max(len(phase) for phase in taps)
    parts = -(-channels * lines // TILE_VALUES) if outs % tile[0] == 0 else 1
    sizes = channels * np.array([len(phase) for phase in taps], dtype=np.int64)
    starts = (np.cumsum(sizes) - sizes)[:, None] + np.arange(parts) * sizes[:, None] // parts
    channel_size = planes[0] * planes[1] if direct else copies * plane + OVERRUN
    offsets, indices = [], []
    for phase in taps:
        places = [tap_offset(row_copies, column_copies, tap, plane, columns + gap) for tap in phase]
        offsets += [channel * channel_size + place for channel in range(channels) for place in places]
        places = [i * len(column_copies.taps) + j for i, j in phase]
        indices += [channel * strides[2] + place for channel in range(channels) for place in places]
    image = channels * (copies * plane + OVERRUN)
    vectors_of_image = vector_table(band, columns, gap, LANES_FLOAT32).shape[1]
    most = min(images * groups // TASKS, BAND_VALUES // image) if bands == 1 else 1
    block = _images_of_block(vectors_of_image, tile[1], most)
    if _waste(vectors_of_image * block, tile[1]) > NARROW_TILE_WASTE:
        tile = NARROWER.get(tile, tile)
    pitches = (groups * channels * planes[0] * planes[1] if direct else image,
               several * outs * band * columns if several else groups * outs * planes[2] * planes[3])  # fmt: skip
    last = (rows - (rows - 1) // band * band, images - (images - 1) // block * block)
    vectors = {size: band_vectors(((band, block), last), columns, gap, pitches, size, tile[1]) for size in (4, 8)}
    overrun = tile[1] * LANES_FLOAT32
    packed = rounded(max(image * block, pitches[0] * block if direct else 0) + overrun)
    temporary = rounded(block * several * outs * band * columns + overrun) if several else 0
    bands_of_all = -(-images // block) * groups * -(-rows // band)
    tiles = -(-outs // tile[0])
    # the last tile of outputs may reach back over the one before: the last part then gets both
    splits = 1 if several else max(1, min(-(-TASKS // bands_of_all), tiles // 2 if outs % tile[0] else tiles))
    workers = min(numba.config.NUMBA_NUM_THREADS, bands_of_all * splits)
    segments = segments_of_copies(planes, (band, halo, gap), steps, bands, row_copies, column_copies)
    all_steps = (*steps, copies * plane + OVERRUN, block, band, gap, parts, direct, splits)
    numbers = (*problem, workers, *planes, *phases, *all_steps, packed + temporary, packed, image)
    ends = np.append(starts.ravel(), len(offsets))
    tables = {size: joined(numbers, (segments[size], vectors[size], table(offsets), ends)) for size in (4, 8)}
    weights = np.concatenate([table([tile[0], groups, outs, *strides[:2]]), table(indices)])
    packed_weights = groups * tiles * tile[0] * (1 + len(offsets))
    return Correlation(tile, tables, weights, packed_weights, workers * (packed + temporary))


def tap_offset(rows: Copies, columns: Copies, tap: tuple[int, int], plane: int, row: int) -> int:
    """Where a tap finds its first pixel in the planes of a channel, which have `plane` values in rows of `row`."""
    (row_copy, down), (column_copy, right) = rows.taps[tap[0]], columns.taps[tap[1]]
    return (row_copy * len(columns.begins) + column_copy) * plane + down * row + right


def table(values: list[int]) -> Table:
    return np.array(values, dtype=np.int64)


def _images_of_block(vectors: int, columns: int, most: int) -> int:
    """How many images make whole tiles of their vectors, nearly, at most `most`."""
    for images in range(1, min(columns, most) + 1):
        if _waste(images * vectors, columns) <= TILE_WASTE:
            return images
    return max(1, min(columns, most))


def _waste(vectors: int, columns: int) -> float:
    """Vectors in whole tiles for one that is needed."""
    return -(-vectors // columns) * columns / vectors


def _tile_of_outer_products(outs: int) -> tuple[int, int]:
    """Tile of outputs by vectors of pixels: as large as the 32 or 16 registers allow, no higher than the outputs."""
    if outs < 4:
        return 1, 6
    if VECTOR_BYTES < 64:
        return 4, 3
    return (8, 3) if outs >= 8 else (4, 4)


def rounded(size: int) -> int:
    """Up to a multiple of a vector, which keeps what follows aligned."""
    return -(-size // LANES_FLOAT32) * LANES_FLOAT32
