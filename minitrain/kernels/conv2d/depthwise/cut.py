"""From the shapes of a depthwise convolution to the integers that its kernels work from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import Row, rounded, workers
from nbnorm.jit.records import row_of
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["ROWS", "Depthwise", "DepthwiseCut", "Packing", "Planes", "cut_depthwise", "is_depthwise", "packing_of"]

# Rows of results that are made at a time: as many sums stay in registers. More do not fit into 16 of them beside the
# operands; with fewer, each sum waits for the one before. Found with `benchmarks.peers conv` on 4 cores of an AVX-512
# Xeon, 2026-11.
ROWS = 8


class Planes(NamedTuple):
    """The planes of the source and of the result, in pixels."""

    height: int
    width: int
    out_height: int
    out_width: int


class Packing(NamedTuple):
    """A packed plane of the source, between zeros, in values."""

    row: int  # from one row to the next
    first: int  # where the first pixel is
    size: int


class DepthwiseCut(NamedTuple):
    """The row of `correlate_planes`. Behind it are, in values:

    `ROWS` offsets of rows in the packed plane, as many in the result, as many times their length; then the offset of
    each tap in the packed plane.
    """

    all_planes: int  # of all images
    channels: int
    planes: Planes
    packing: Packing
    taps: int
    workers: int


class Depthwise(NamedTuple):
    """What `correlate_planes` needs for given shapes."""

    row: Row  # a `DepthwiseCut`, then the offsets
    weights: Row  # of `pack_weights`
    packed: int  # values that `pack_weights` writes
    scratch: int  # values for all workers together


def is_depthwise(g: Geometry) -> bool:
    """Whether each output is made from one channel of its own, with stride 1 and no more padding than taps."""
    reach = [(taps - 1) * step for taps, step in zip(g.kernel, g.dilation, strict=True)]
    inside = all(pad <= far for pad, far in zip(g.padding, reach, strict=True))
    return 1 < g.groups == g.input_shape[1] == g.out_channels and g.stride == (1, 1) and inside


def cut_depthwise(g: Geometry, gradient: bool = False) -> Depthwise:
    """Cut the forward pass, or the input gradient: a convolution of dy with the kernels turned around."""
    (images, channels), source, result = g.input_shape[:2], g.input_shape[2:], g.output_shape[2:]
    (kh, kw), (down, right), (above, left) = g.kernel, g.dilation, g.padding
    order = list(range(kh * kw))
    if gradient:
        source, result = result, source
        above, left, order = (kh - 1) * down - above, (kw - 1) * right - left, order[::-1]
    planes = Planes(*source, *result)
    packing, taps = packing_of(g, planes, above, left)
    shared_by = workers(images * channels)
    rows = np.minimum(np.arange(ROWS), planes.out_height - 1)
    offsets = rows * packing.row, rows * planes.out_width, np.full(ROWS, planes.out_width), np.array(taps)
    cut = DepthwiseCut(images * channels, channels, planes, packing, len(taps), shared_by)
    # one output of one group for each channel, the strides of both, then the taps
    weights = row_of((1, channels, 1, kh * kw, kh * kw, *order))
    return Depthwise(row_of(cut, *offsets), weights, channels * (1 + kh * kw), shared_by * packing.size)


def packing_of(g: Geometry, planes: Planes, above: int, left: int) -> tuple[Packing, list[int]]:
    """Return the packing of planes with so many rows and columns of zeros around them, and each tap's offset in it."""
    border = rounded(left)  # so that rows begin at a line of the cache
    row = rounded(planes.width + left)  # the zeros at the left of a row are at the right of the one before, too
    size = (planes.height + 2 * above) * row + border + 2 * LANES_FLOAT32
    (kh, kw), (down, right) = g.kernel, g.dilation
    taps = [i * down * row + j * right + border - left for i in range(kh) for j in range(kw)]
    return Packing(row, above * row + border, size), taps
