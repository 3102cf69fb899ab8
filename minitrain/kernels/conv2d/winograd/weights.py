"""The weights of Winograd's convolution: transformed to 36 points, in the order in which its products read them."""

import numpy as np

from minitrain.kernels.conv2d.winograd.transforms import POINTS, transform_weight
from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat, item
from nbnorm.simd.transpose import store_transposed
from nbnorm.simd.vectors import lanes_of, splat, store

__all__ = ["step_of_weights", "transform_weights", "weights_step"]

HEAD = 6  # numbers of the table before the places of the taps


def step_of_weights(in_blocks: int, out_blocks: int, lanes: int) -> int:
    """Values from the weights of one point to the next: not a power of 2, so that they get all of a cache."""
    return (in_blocks * out_blocks * lanes + 1) * lanes


weights_step = device(step_of_weights)


@device
def _transform_kernels(index, row, weight, scale, transformed):
    """The kernels of the vector of outputs and the vector of channels that `index` numbers; none are kernels of 0.

    The taps of a vector of kernels are first put where its first points are going to be.
    """
    outs, channels, out_stride, channel_stride = item(row, 0), item(row, 1), item(row, 2), item(row, 3)
    lanes, taps = lanes_of(transformed), row.size - HEAD
    in_blocks, out_blocks = (channels + lanes - 1) // lanes, (outs + lanes - 1) // lanes
    block, first = index // in_blocks, index % in_blocks * lanes
    width = lanes if block == out_blocks - 1 and block % 2 == 0 else 2 * lanes  # of the last one, if it has no partner
    step = weights_step(in_blocks, out_blocks, lanes)
    goal = block // 2 * 2 * in_blocks * lanes * lanes + block % 2 * lanes + first * width
    rows, part = min(lanes, outs - block * lanes), min(lanes, taps)
    for channel in range(first, first + lanes):
        for tap in range(taps):
            store(transformed, goal + tap * step, splat(transformed.dtype.type(0)))
        if channel < channels:
            start = block * lanes * out_stride + channel * channel_stride
            for tap in range(0, taps, part):
                last = min(tap, taps - part)
                store_transposed(weight, start + last, out_stride, rows, part, transformed, goal, row, HEAD + last)
            if scale.size:
                for tap in range(taps):
                    for r in range(rows):
                        at = goal + tap * step + r
                        transformed[at] = transformed[at] * scale[block * lanes + r]
        transform_weight(transformed, goal + item(row, 4) * step, item(row, 5) * step, transformed, goal, step)
        goal += width


@kernel
def transform_weights(table, weight, scale, bias, transformed):
    """For each point, pair of vectors of outputs, and channel a value for each of these outputs; then all biases.

    table: outputs, channels, strides of an output and of a channel in the weights, first tap and step from tap to tap,
    then for each tap the place of its values, relative to that of the first point. What is missing to whole vectors is
    0. The weights of each output are multiplied by its scale (float64), if there are any, and rounded once.
    """
    row, weight, scale, bias, transformed = flat(table), flat(weight), flat(scale), flat(bias), flat(transformed)
    outs, channels, lanes = row[0], row[1], lanes_of(transformed)
    in_blocks, out_blocks = (channels + lanes - 1) // lanes, (outs + lanes - 1) // lanes
    for index in prange(in_blocks * out_blocks):
        _transform_kernels(np.intp(index), row, weight, scale, transformed)
    step = weights_step(in_blocks, out_blocks, lanes)
    for point in range(1, POINTS + 1):
        store(transformed, point * step - lanes, splat(transformed.dtype.type(0)))  # what keeps the points apart
    for k in range(out_blocks * lanes):
        transformed[POINTS * step + k] = bias[k] if k < bias.size else 0
