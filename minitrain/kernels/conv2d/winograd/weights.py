"""The weights of Winograd's convolution: transformed to 36 points, in the order in which its products read them."""

from typing import NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import Row, ceil_div
from minitrain.kernels.conv2d.winograd.transforms import POINTS, TAPS, transform_weight
from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, row_of, size_of
from nbnorm.simd.memory import flat
from nbnorm.simd.transpose import store_transposed
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, splat, store

__all__ = ["WeightsCut", "point_of_weights", "point_pitch", "row_of_weights", "transform_weights"]

AREA = TAPS * TAPS


class WeightsCut(NamedTuple):
    """The row of `transform_weights`; behind it for each tap the offset of its values from those of the first point."""

    outs: int
    channels: int
    out_stride: int  # values from an output to the next in the weights
    channel_stride: int
    first_tap: int  # the last one and -1, where the kernels are turned around
    tap_step: int


cut_of = record(WeightsCut)
TAP_OFFSETS = size_of(WeightsCut)  # where they begin in the row


def point_of_weights(in_vectors: int, out_vectors: int, lanes: int) -> int:
    """Values from the weights of one point to the next: not a power of 2, so that they get all of a cache."""
    return (in_vectors * out_vectors * lanes + 1) * lanes


point_pitch = device(point_of_weights)


def row_of_weights(outs: int, channels: int, gradient: bool) -> Row:
    """Return the row of `transform_weights` for these outputs and channels; those of x and y, changed, for a gradient.

    The weights are (outs, channels, 3, 3), or (channels, outs, 3, 3) and turned around.
    """
    if gradient:
        cut = WeightsCut(outs, channels, AREA, outs * AREA, AREA - 1, -1)
    else:
        cut = WeightsCut(outs, channels, channels * AREA, AREA, 0, 1)
    point = point_of_weights(ceil_div(channels, LANES_FLOAT32), ceil_div(outs, LANES_FLOAT32), LANES_FLOAT32)
    return row_of(cut, np.arange(AREA) * point)


@device
def _transform_kernels(index, row, weight, scale, packed):
    """The kernels of the vector of outputs and the vector of channels that `index` numbers; none are kernels of 0.

    The taps of a vector of kernels are first put where its first points are going to be.
    """
    cut = cut_of(row)
    lanes, taps = lanes_of(packed), row.size - TAP_OFFSETS
    in_vectors, out_vectors = (cut.channels + lanes - 1) // lanes, (cut.outs + lanes - 1) // lanes
    block, first = index // in_vectors, index % in_vectors * lanes
    # the last vector of outputs has no partner if they are odd
    width = lanes if block == out_vectors - 1 and block % 2 == 0 else 2 * lanes
    point = point_pitch(in_vectors, out_vectors, lanes)
    u = block // 2 * 2 * in_vectors * lanes * lanes + block % 2 * lanes + first * width
    rows, some = min(lanes, cut.outs - block * lanes), min(lanes, taps)
    for channel in range(first, first + lanes):
        for tap in range(taps):
            store(packed, u + tap * point, splat(packed.dtype.type(0)))
        if channel < cut.channels:
            kernels = block * lanes * cut.out_stride + channel * cut.channel_stride
            for tap in range(0, taps, some):
                last = min(tap, taps - some)
                store_transposed(weight, kernels + last, cut.out_stride, rows, some, packed, u, row,
                                 TAP_OFFSETS + last)  # fmt: skip
            if scale.size:
                for tap in range(taps):
                    for r in range(rows):
                        value = u + tap * point + r
                        packed[value] = packed[value] * scale[block * lanes + r]
        transform_weight(packed, u + cut.first_tap * point, cut.tap_step * point, packed, u, point)
        u += width


@kernel
def transform_weights(row, weight, scale, bias, packed):
    """For each point, pair of vectors of outputs, and channel a value for each of these outputs; then all biases.

    row: a `WeightsCut` and the taps' offsets. What is missing to whole vectors is 0. The weights of each output are
    multiplied by its scale (float64), if there are any, and rounded once.
    """
    row, weight, scale, bias, packed = flat(row), flat(weight), flat(scale), flat(bias), flat(packed)
    cut, lanes = cut_of(row), lanes_of(packed)
    in_vectors, out_vectors = (cut.channels + lanes - 1) // lanes, (cut.outs + lanes - 1) // lanes
    for index in prange(in_vectors * out_vectors):
        _transform_kernels(np.intp(index), row, weight, scale, packed)
    point = point_pitch(in_vectors, out_vectors, lanes)
    for p in range(1, POINTS + 1):
        store(packed, p * point - lanes, splat(packed.dtype.type(0)))  # what keeps the points apart
    for k in range(out_vectors * lanes):
        packed[POINTS * point + k] = bias[k] if k < bias.size else 0
