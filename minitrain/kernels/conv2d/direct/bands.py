"""What surrounds the products of a band of a correlation: which it is, its packed planes, what is fetched, its end."""

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.direct.pack import Planes, pack
from minitrain.kernels.conv2d.direct.vectors import Vectors
from minitrain.kernels.conv2d.epilogue import finish
from minitrain.kernels.conv2d.memory import Operand, clear
from nbnorm.jit import device
from nbnorm.simd.masks import store_interleaved
from nbnorm.simd.memory import item
from nbnorm.simd.vectors import lanes_of, load

__all__ = ["UNROLL", "Band", "Fetching", "Result", "band_of", "fetching_of", "finish_band", "pack_band", "vectors_of"]

# (channel, tap) pairs in one turn of the loop over a sum. Fewer spend more instructions beside the products, of which
# the processor issues few; more leave longer rests to the plain loop. Found with `benchmarks.peers conv` on 4 cores of
# an AVX-512 Xeon, 2026-11.
UNROLL = 4

# Values that are fetched ahead at once, at the beginning of a tile's sum, at most: 2 KiB in float32. A sum that would
# fetch more does so in each turn of its loop. Above, requests wait for each other; below, sums are interrupted more
# often than memory asks for. Found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.
BURST = 512


class Band(NamedTuple):
    """Rows [row, row + rows) of each phase of the result, of images [image, image + images) and one group."""

    image: int
    images: int
    group: int
    row: int
    rows: int


class Result(NamedTuple):
    """Output k of phase f is at array[offset + k * pitch + f * phase_pitch:]."""

    array: Any
    offset: int
    pitch: int
    phase_pitch: int


class Fetching(NamedTuple):
    """For each `stretch` of a tile's sums, `share` values of array[offset:] are fetched ahead."""

    array: Any
    offset: int
    share: int
    stretch: int


@device
def band_of(index, cut):
    """The band of this number: those of an image follow each other."""
    problem, bands, height = cut.problem, cut.bands, cut.phases.height
    count = (height + bands.rows - 1) // bands.rows
    row, block = index % count * bands.rows, index // count
    image, group = block // problem.groups * bands.images, block % problem.groups
    return Band(image, min(bands.images, problem.images - image), group, row, min(bands.rows, height - row))


@device
def pack_band(cut, tables, band, source, scratch, own):
    """Put what a band is computed from into scratch[own:], if it must be moved. Returns where it is: an Operand."""
    problem, packed = cut.problem, cut.packed
    group_size = problem.channels * problem.height * problem.width
    image_pitch = problem.groups * group_size
    base = band.image * image_pitch + band.group * group_size
    if not packed.in_place:
        if cut.bands.rows < cut.phases.height:  # the borders are elsewhere than those of the band before
            clear(scratch, own, packed.image)
        for i in range(band.images):
            planes = Planes(source, base + i * image_pitch, problem.channels, problem.height, problem.width)
            pack(planes, band.row * packed.row_stride, packed.column_stride, tables.segments,
                 scratch, own + i * packed.image, packed.channel)  # fmt: skip
        return Operand(scratch, own)
    # vectors read a little beyond the end of an image
    if band.group == problem.groups - 1 and band.image + band.images == problem.images:
        for i in range(source.size - base):
            scratch[own + i] = source[base + i]
        return Operand(scratch, own)
    return Operand(source, base)


@device
def vectors_of(cut, table, band, lanes, columns):
    """The vectors of a band: the last one of rows, or of images, has a table of its own."""
    width = cut.phases.width
    length = band.rows * width
    count = band.rows * ((width + lanes - 1) // lanes) if cut.packed.gap else (length + lanes - 1) // lanes
    count *= band.images
    pitch = max(count, columns)
    whole = band.rows == cut.bands.rows and band.images == cut.bands.images
    return Vectors(table, 0 if whole else table.size - 3 * pitch, count, pitch)


@device
def _stretches(starts, size):
    """Number of stretches of `size` terms and less in all sums."""
    total = np.intp(0)
    for f in range(starts.size - 1):
        total += (item(starts, f + 1) - item(starts, f) + size - 1) // size
    return total


@device
def fetching_of(cut, tables, band, tiles, source):
    """Where the next image begins, and how much of it each stretch of the sums of so many tiles fetches."""
    problem, bands = cut.problem, cut.bands
    group_size = problem.channels * problem.height * problem.width
    whole = bands.rows >= cut.phases.height and bands.splits == 1
    size = band.images * group_size if whole else 0
    offset = (band.image * problem.groups + band.group) * group_size + size
    size //= tiles
    stretch = max(1, tables.offsets.size)  # no tap at all may reach the source
    stretches = _stretches(tables.starts, stretch)
    if size > BURST * stretches:
        stretch, stretches = UNROLL, _stretches(tables.starts, UNROLL)
    return Fetching(source, offset, size // max(1, stretches), stretch)


@device
def _interleave(cut, band, temporary, target, image):
    """Put a band of all phases, an Operand as [phase][output][row][column], into an image that begins there."""
    outs, phases = cut.problem.outs, cut.phases
    height, width, columns = cut.problem.out_height, cut.problem.out_width, phases.width
    memory, lanes = temporary.array, lanes_of(target)
    phase = outs * band.rows * columns
    for k in range(outs):
        for q in range(band.rows):
            for a in range(min(phases.rows, height - (band.row + q) * phases.rows)):
                row = image + (k * height + (band.row + q) * phases.rows + a) * width
                phase_row = temporary.offset + a * phases.columns * phase + (k * band.rows + q) * columns
                if phases.columns == 2:
                    for column in range(0, columns, lanes):
                        even, odd = load(memory, phase_row + column), load(memory, phase_row + phase + column)
                        store_interleaved(target, row + 2 * column, even, odd, width - 2 * column)
                else:
                    for b in range(phases.columns):
                        for column in range((width - b + phases.columns - 1) // phases.columns):
                            target[row + b + column * phases.columns] = memory[phase_row + b * phase + column]


@device
def finish_band(cut, band, first_out, outs, result, epilogue, target):
    """Interleave the phases of a band, where there are several, and apply the epilogue, image by image."""
    problem, phases = cut.problem, cut.phases
    plane = problem.out_height * problem.out_width
    image_pitch = problem.groups * problem.outs * plane
    channel = band.group * problem.outs + first_out
    image = band.image * image_pitch + channel * plane
    rows, phase_rows = band.rows * phases.rows, band.row * phases.rows
    several = phases.rows * phases.columns > 1
    if several:
        rows = min(rows, problem.out_height - phase_rows)
    temporary = result.offset
    for _ in range(band.images):
        if several:
            _interleave(cut, band, Operand(result.array, temporary), target, image)
            temporary += phases.rows * phases.columns * result.phase_pitch
        finish(epilogue.residual, epilogue.relu, epilogue.affine, channel, image + phase_rows * problem.out_width,
               plane, outs, rows * problem.out_width, target)  # fmt: skip
        image += image_pitch
