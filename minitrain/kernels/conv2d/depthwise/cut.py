"""From the shapes of a depthwise convolution to the integers that its kernels work from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from minitrain.kernels.conv2d.cutting import TASKS, rounded
from minitrain.kernels.conv2d.cutting import Row as Table
from minitrain.kernels.conv2d.depthwise.forward import ROWS
from minitrain.kernels.conv2d.depthwise.weight_gradient import TAPS
from nbnorm.simd.vectors import LANES_FLOAT32

if TYPE_CHECKING:
    from minitrain.kernels.conv2d.geometry import Conv2dGeometry

__all__ = ["Depthwise", "DepthwiseWeight", "is_depthwise", "plan_depthwise", "plan_depthwise_weight"]

CHUNK_PIXELS = 32 * 1024  # as many are summed by one task where there are enough of them
CHANNEL_BLOCK = 32  # channels of a task: their sums stay in a level 2 cache
PARTIAL_VALUES = 2 * 1024 * 1024  # sums of all chunks together


class Depthwise(NamedTuple):
    """What `correlate_planes` does.

    `table` has, one after the other:

    - planes of all images, channels, workers;
    - height and width of the source, of the result;
    - values from row to row of a packed plane, in it the place of the first pixel, size of a worker's scratch;
    - taps; `ROWS` places of rows in the packed plane, as many in the result, as many times how long these are;
    - the place of each tap in the packed plane.

    `weights` is what `pack_weights` works from; `packed` and `scratch` are the sizes of its result and of the workers'
    scratch.
    """

    table: Table
    weights: Table
    packed: int
    scratch: int


class DepthwiseWeight(NamedTuple):
    """What `sum_planes` does.

    `table` has, one after the other:

    - images, channels, workers, chunks of images, channels of a task;
    - height and width of x, of dy;
    - values from row to row of a packed plane, in it the place of the first pixel;
    - where the workers' scratch begins, its size;
    - taps, up to whole tiles, and how many there are; the place of each in the packed plane.
    """

    table: Table
    scratch: int


def is_depthwise(g: Conv2dGeometry) -> bool:
    """Whether each output is made from one channel of its own, with stride 1 and no more padding than taps."""
    reach = [(taps - 1) * step for taps, step in zip(g.kernel, g.dilation, strict=True)]
    inside = all(pad <= far for pad, far in zip(g.padding, reach, strict=True))
    return 1 < g.groups == g.input_shape[1] == g.out_channels and g.stride == (1, 1) and inside


def plan_depthwise(g: Conv2dGeometry, gradient: bool = False) -> Depthwise:
    """Plan the forward pass, or the input gradient: a convolution of dy with the kernels turned around."""
    (images, channels, height, width), (out_height, out_width) = g.input_shape, g.output_shape[2:]
    (kh, kw), (down, right), (above, left) = g.kernel, g.dilation, g.padding
    order = list(range(kh * kw))
    if gradient:
        height, width, out_height, out_width = out_height, out_width, height, width
        above, left, order = (kh - 1) * down - above, (kw - 1) * right - left, order[::-1]
    pitch, inside, size, taps = _packed_plane(g, (height, width), (above, left))
    workers = min(numba.config.NUMBA_NUM_THREADS, images * channels)
    rows = np.minimum(np.arange(ROWS), out_height - 1)
    numbers = (
        images * channels, channels, workers, height, width, out_height, out_width, pitch, inside, size, len(taps),
        *(rows * pitch), *(rows * out_width), *[out_width] * ROWS, *taps,
    )  # fmt: skip
    weights = np.array([1, channels, 1, kh * kw, kh * kw, *order], dtype=np.int64)
    return Depthwise(np.array(numbers, dtype=np.int64), weights, channels * (1 + kh * kw), workers * size)


def plan_depthwise_weight(g: Conv2dGeometry) -> DepthwiseWeight:
    """Plan the weight gradient."""
    (images, channels, height, width), (out_height, out_width) = g.input_shape, g.output_shape[2:]
    pitch, inside, size, taps = _packed_plane(g, (height, width), g.padding)
    padded = -(-len(taps) // TAPS) * TAPS
    block = min(channels, CHANNEL_BLOCK)
    sums = channels * padded * LANES_FLOAT32
    chunks = max(-(-images * out_height * out_width // CHUNK_PIXELS), -(-TASKS // -(-channels // block)))
    chunks = max(1, min(chunks, images, PARTIAL_VALUES // sums))
    workers = min(numba.config.NUMBA_NUM_THREADS, chunks * -(-channels // block))
    numbers = (
        images, channels, workers, chunks, block, height, width, out_height, out_width, pitch, inside,
        chunks * sums, size, padded, len(taps),
    )  # fmt: skip
    table = np.array([*numbers, *taps, *taps[-1:] * (padded - len(taps))], dtype=np.int64)
    return DepthwiseWeight(table, chunks * sums + workers * size)


def _packed_plane(
    g: Conv2dGeometry, source: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int, int, list[int]]:
    """Values from row to row of a plane between zeros, place of its first pixel, size, and the place of each tap."""
    (height, width), (above, left) = source, padding
    border = rounded(left)  # so that rows begin at a line of the cache
    pitch = rounded(width + left)  # the zeros at the left of a row are at the right of the one before, too
    size = (height + 2 * above) * pitch + border + 2 * LANES_FLOAT32
    (kh, kw), (down, right) = g.kernel, g.dilation
    taps = [i * down * pitch + j * right + border - left for i in range(kh) for j in range(kw)]
    return pitch, above * pitch + border, size, taps
