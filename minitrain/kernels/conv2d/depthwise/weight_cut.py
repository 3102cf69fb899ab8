"""From the shapes of a depthwise convolution to the integers that the kernel of its weight gradient works from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, Row, ceil_div, workers
from minitrain.kernels.conv2d.depthwise.cut import Packing, Planes, packing_of
from nbnorm.jit.records import row_of
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Geometry

__all__ = ["TAPS", "DepthwiseWeight", "DepthwiseWeightCut", "Shares", "cut_depthwise_weight"]

# The following were found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.

# Taps that are summed at a time: as many sums stay in registers. More do not fit into 16 of them beside the operands;
# with fewer, a 3 x 3 kernel would read dy more than once.
TAPS = 9
# Pixels of dy that one task sums where there are enough images. More leave threads without work; fewer make more sums
# to clear and to add than they are worth.
CHUNK_PIXELS = 32 * 1024
# Channels of a task, at most. More have sums that do not stay in a level 2 cache; fewer read memory in shorter runs.
CHANNEL_BLOCK = 32
# Values of all chunks' sums together, at most (8 MiB in float32). More do not stay in a level 3 cache until they are
# added; fewer leave threads without work where there are many channels.
PARTIAL_VALUES = 2 * 1024 * 1024


class Shares(NamedTuple):
    """How the sums are cut into tasks: a chunk of images, a block of channels."""

    images: int
    channels: int
    chunks: int  # of images
    block: int  # channels of a task
    blocks: int  # of channels
    padded_taps: int  # up to whole tiles of `TAPS`
    taps: int


class DepthwiseWeightCut(NamedTuple):
    """The row of `sum_planes`; behind it the offset of each of the padded taps in the packed plane, in values."""

    shares: Shares
    planes: Planes
    packing: Packing
    sums: int  # values of all chunks' sums, behind which the workers' scratch begins
    workers: int


class DepthwiseWeight(NamedTuple):
    """What `sum_planes` needs for given shapes."""

    row: Row  # a `DepthwiseWeightCut`, then the taps' offsets
    scratch: int  # values
    chunks: int  # of images


def cut_depthwise_weight(g: Geometry) -> DepthwiseWeight:
    """Cut the weight gradient."""
    images, channels = g.input_shape[:2]
    planes = Planes(*g.input_shape[2:], *g.output_shape[2:])
    packing, taps = packing_of(g, planes, *g.padding)
    padded = ceil_div(len(taps), TAPS) * TAPS
    block = min(channels, CHANNEL_BLOCK)
    blocks = ceil_div(channels, block)
    sums = channels * padded * LANES_FLOAT32
    chunks = max(ceil_div(images * planes.out_height * planes.out_width, CHUNK_PIXELS), ceil_div(TASKS, blocks))
    chunks = max(1, min(chunks, images, PARTIAL_VALUES // sums))
    shares = Shares(images, channels, chunks, block, blocks, padded, len(taps))
    shared_by = workers(chunks * blocks)
    cut = DepthwiseWeightCut(shares, planes, packing, chunks * sums, shared_by)
    offsets = np.array([*taps, *taps[-1:] * (padded - len(taps))])
    return DepthwiseWeight(row_of(cut, offsets), chunks * sums + shared_by * packing.size, chunks)
