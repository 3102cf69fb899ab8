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
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES

if TYPE_CHECKING:
    from minitrain.kernels.conv2d_geometry import Conv2dGeometry

__all__ = ["Correlation", "WeightGradient", "plan_forward", "plan_input_gradient", "plan_weight_gradient"]

BAND_VALUES = 64 * 1024  # of a packed band: 256 KiB in float32, which stays in a level 2 cache
BAND_PIXELS = 128  # fewer than this make too little use of weights that come from memory
BLOCK_PIXELS = 512  # of the weight gradient: a tile's rows of them stay in a level 1 cache
LANE_SUMS = 6144  # vectors of partial sums that a task of the weight gradient keeps: 384 KiB in float32
CHUNK_PIXELS = 4096  # of the weight gradient: as many are summed by one task where there are enough of them
PARTIAL_VALUES = 2 * 1024 * 1024  # of the weight gradient: all chunks together
TASKS = 16  # make at least as many where the shapes allow it

Integers = tuple[int, ...]
Table = NDArray[np.int64]


class Correlation(NamedTuple):
    """What `correlate` does.

    The result consists of phases[0] x phases[1] interleaved phases (one, unless the stride of an input gradient makes
    more). Phase f has the taps starts[f] to starts[f + 1]; a row of `taps` is (offset in the packed plane, index in the
    weight's plane). `shifts` belongs to `pack`. `problem`: images, groups, channels and outputs of a group, workers.
    `planes`: height and width of the source, of the result and of one phase. `steps`: of rows and columns in the
    source, number of residues, rows of a band, rows of it beyond its results. `places`: strides of the weight (group,
    output, channel), where the workers' scratch begins, its size, and where in it the temporary results begin.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    phases: Integers
    steps: Integers
    places: Integers
    shifts: Table
    taps: Table
    starts: Table
    scratch: int


class WeightGradient(NamedTuple):
    """What `sum_products` does.

    `problem`: images, groups, channels and outputs of a group, workers. `planes`: height and width of x, of dy.
    `steps`: of rows and columns in x, number of residues, rows of a packed plane. `blocks`: chunks, then the size of a
    block of images, pixels, channels, outputs. `places`: where the workers' scratch begins, its size, and where in it
    the panel of dy and the sums begin. `offsets`: of (channel, tap) in the packed planes.
    """

    tile: tuple[int, int]
    problem: Integers
    planes: Integers
    steps: Integers
    blocks: Integers
    places: Integers
    shifts: Table
    offsets: Table
    scratch: int


def plan_forward(g: Conv2dGeometry) -> Correlation:
    """Plan the forward pass: tap (i, j) of row p meets row p * sh + i * dh - ph."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    residues = sorted({i * dh % sh for i in range(kh)})
    shifts = [residue - ph for residue in residues] + [j * dw - pw for j in range(kw)]
    taps = [(residues.index(i * dh % sh) * kw + j, i * dh // sh, i * kw + j) for i in range(kh) for j in range(kw)]
    images, _, height, width = g.input_shape
    outs, channels = g.out_channels // g.groups, g.weight_shape[1]
    strides = (outs * channels * kh * kw, channels * kh * kw, kh * kw)
    planes = (height, width, *g.output_shape[2:], *g.output_shape[2:])
    return _correlation(
        (images, g.groups, channels, outs), planes, (1, 1), (sh, sw, len(residues)), shifts, [taps], strides
    )


def plan_input_gradient(g: Conv2dGeometry) -> Correlation:
    """Plan the input gradient: each residue of the stride is a correlation with stride 1.

    Row h = q * sh + a of the input meets tap i in row p of the output where p * sh = h + ph - i * dh.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    images, _, height, width = g.input_shape
    phases = (min(sh, height), min(sw, width))
    row_phases = [(i * dh - ph) % sh for i in range(kh)]
    column_phases = [(j * dw - pw) % sw for j in range(kw)]
    row_shifts = [(a + ph - i * dh) // sh for i, a in enumerate(row_phases)]
    shifts = [min(row_shifts)] + [(b + pw - j * dw) // sw for j, b in enumerate(column_phases)]
    taps: list[list[tuple[int, int, int]]] = [[] for _ in range(phases[0] * phases[1])]
    for i, a in enumerate(row_phases):
        for j, b in enumerate(column_phases):
            if a < phases[0] and b < phases[1]:
                taps[a * phases[1] + b].append((j, row_shifts[i] - shifts[0], i * kw + j))
    channels, outs = g.out_channels // g.groups, g.weight_shape[1]
    strides = (channels * outs * kh * kw, kh * kw, outs * kh * kw)
    planes = (*g.output_shape[2:], height, width, -(-height // sh), -(-width // sw))
    return _correlation((images, g.groups, channels, outs), planes, phases, (1, 1, 1), shifts, taps, strides)


def _correlation(
    problem: Integers,
    planes: Integers,
    phases: Integers,
    steps: Integers,
    shifts: list[int],
    taps: list[list[tuple[int, int, int]]],
    strides: Integers,
) -> Correlation:
    """Choose the tile and the bands; taps are (copy, shift in rows, index in the weight), a list for each phase."""
    images, groups, channels, outs = problem
    tile = _tile_of_outer_products(outs)
    halo = max((shift for phase in taps for _, shift, _ in phase), default=0)
    rows, columns = planes[4:]
    copies = len(shifts) - steps[2] if steps[2] == 1 else steps[2] * (len(shifts) - steps[2])
    phase_count = phases[0] * phases[1]
    values = channels * copies * columns + (outs * phase_count * columns if phase_count > 1 else 0)
    band = max(BAND_VALUES // values - halo, -(-BAND_PIXELS // columns))
    bands = max(-(-rows // band), min(-(-TASKS // (images * groups)), rows * columns // BAND_PIXELS))
    band = -(-rows // max(1, bands))
    slots = band + halo
    flat = [((copy * slots + shift) * columns, index) for phase in taps for copy, shift, index in phase]
    weights = groups * -(-outs // tile[0]) * tile[0] * (1 + channels * len(flat))
    block = tile[1] * LANES_FLOAT32
    packed = _rounded(channels * copies * slots * columns + max(block, OVERRUN))
    temporary = _rounded(phase_count * outs * band * columns + block) if phase_count > 1 else 0
    workers = min(numba.config.NUMBA_NUM_THREADS, images * groups * -(-rows // band))
    places = (*strides, _rounded(weights), packed + temporary, packed)
    return Correlation(
        tile,
        (*problem, workers),
        planes,
        phases,
        (*steps, band, halo),
        places,
        np.array(shifts, dtype=np.int64),
        np.array(flat, dtype=np.int64).reshape(-1, 2),
        np.cumsum([0] + [len(phase) for phase in taps], dtype=np.int64),
        places[3] + workers * places[4],
    )


def plan_weight_gradient(g: Conv2dGeometry) -> WeightGradient:
    """Plan the weight gradient: the planes of x packed as for the forward pass, products summed over pixels."""
    forward = plan_forward(g)
    images, groups, channels, outs, _ = forward.problem
    height, width, rows, columns, *_ = forward.planes
    row_step, column_step, residues, band, halo = forward.steps
    tile = _tile_of_products(outs)
    pixels, taps, slots = rows * columns, len(forward.taps), rows + halo
    plane = residues * g.kernel[1] * slots * columns
    image_block = max(1, min(images, BLOCK_PIXELS // pixels))
    out_block = _even(outs, 64)
    channel_block = _even(channels, max(1, min(BAND_VALUES // (plane * image_block), LANE_SUMS // (taps * out_block))))
    others = groups * -(-outs // out_block) * -(-channels // channel_block)
    chunks = max(-(-images * pixels // CHUNK_PIXELS), -(-TASKS // others))
    weight_size = groups * outs * channels * taps
    chunks = max(1, min(chunks, 2 * TASKS, -(-images // image_block), PARTIAL_VALUES // weight_size))
    offsets = forward.taps[:, 0] // columns  # in rows of the forward pass's bands: copy * (band + halo) + shift
    offsets = (offsets // (band + halo) * slots + offsets % (band + halo)) * columns
    offsets = (np.arange(channel_block)[:, None] * plane + offsets).ravel()
    offsets = np.append(offsets, np.zeros(max(0, tile[1] - offsets.size), dtype=np.int64))
    packed = _rounded(image_block * channel_block * plane + OVERRUN)
    pixel_block = min(BLOCK_PIXELS, _rounded(pixels))
    panel = -(-out_block // tile[0]) * tile[0] * image_block * pixel_block
    sums = -(-out_block // tile[0]) * -(-channel_block * taps // tile[1]) * tile[0] * tile[1] * LANES_FLOAT32
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * others)
    places = (_rounded(chunks * weight_size), packed + panel + sums, packed, packed + panel)
    return WeightGradient(
        tile,
        (images, groups, channels, outs, workers),
        (height, width, rows, columns),
        (row_step, column_step, residues, slots),
        (chunks, image_block, pixel_block, channel_block, out_block),
        places,
        forward.shifts,
        offsets,
        places[0] + workers * places[1],
    )


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
    return (8, 3) if outs >= 8 else (4, 6)


def _even(size: int, most: int) -> int:
    """The size of parts of at most `most`, alike as far as they can be."""
    return -(-size // -(-size // most))


def _rounded(size: int) -> int:
    """Up to a multiple of a vector, which keeps what follows aligned."""
    return -(-size // LANES_FLOAT32) * LANES_FLOAT32
