"""Mean and variance of each channel, of what a convolution has just computed and still holds in the cache.

They are found in parts: sums of the deviations from a shift, and of their squares, for a vector of channels. A part is
an array (MOMENTS, lanes) in float64: the shift, the sum of deviations, the sum of their squares, the number of values.
"""

import numpy as np

from nbnorm.jit import device, kernel
from nbnorm.kernels import statistics as channel
from nbnorm.simd.memory import flat
from nbnorm.simd.vectors import add, fma, lanes_of, load, splat, store, subtract

__all__ = ["MOMENTS", "add_moments", "combine_moments", "take_moments"]

MOMENTS = 4
SAMPLES = 16  # whose mean is the shift


@device
def _sampled_shift(memory, at, pixels):
    """Mean of the first vectors; equal ones give exactly their value."""
    lanes, few = lanes_of(memory), min(pixels, SAMPLES)
    first = load(memory, at)
    total = subtract(first, first)
    for p in range(1, few):
        total = add(total, subtract(load(memory, at + p * lanes), first))
    return fma(total, splat(memory.dtype.type(1 / few)), first)


@device
def add_moments(memory, at, pixels, is_first, spare, sums, to):
    """Add `pixels` vectors of memory[at:] to the part at sums[to:]; the first ones begin it and choose its shift.

    memory[spare:] has room for MOMENTS vectors, and is the part's own as long as it grows. Sums of one call are made in
    float32.
    """
    lanes = lanes_of(memory)
    if is_first:
        store(memory, spare, _sampled_shift(memory, at, pixels))
        for lane in range(lanes):
            sums[to + lane] = memory[spare + lane]
            sums[to + lanes + lane] = sums[to + 2 * lanes + lane] = sums[to + 3 * lanes + lane] = 0.0
    shift = load(memory, spare)
    total = other = squares = more = subtract(shift, shift)
    for p in range(at, at + pixels // 2 * 2 * lanes, 2 * lanes):
        a, b = subtract(load(memory, p), shift), subtract(load(memory, p + lanes), shift)
        total, squares = add(total, a), fma(a, a, squares)
        other, more = add(other, b), fma(b, b, more)
    if pixels % 2:
        a = subtract(load(memory, at + (pixels - 1) * lanes), shift)
        total, squares = add(total, a), fma(a, a, squares)
    store(memory, spare + lanes, add(total, other))
    store(memory, spare + 2 * lanes, add(squares, more))
    for i in range(lanes, 3 * lanes):
        sums[to + i] += memory[spare + i]
    for i in range(3 * lanes, 4 * lanes):
        sums[to + i] += pixels


@kernel
def combine_moments(sums, y, moments):
    """Overwrite moments (2, C) with the mean and the biased variance of each channel of y (N, C, L), in float64.

    sums: (parts, blocks, MOMENTS, lanes), parts of all values, where channel c is lane c % lanes of block c // lanes.
    """
    parts, blocks, _, lanes = sums.shape
    channels, count = moments.shape[1], y.shape[0] * y.shape[2]
    moments[:] = 0.0
    for part in range(parts):
        for block in range(blocks):
            for lane in range(min(lanes, channels - block * lanes)):
                shift, total, n = sums[part, block, 0, lane], sums[part, block, 1, lane], sums[part, block, 3, lane]
                moments[0, block * lanes + lane] += n * (shift - sums[0, block, 0, lane]) + total
    for c in range(channels):
        moments[0, c] = sums[0, c // lanes, 0, c % lanes] + moments[0, c] / count
    for part in range(parts):
        for block in range(blocks):
            for lane in range(min(lanes, channels - block * lanes)):
                c, total, n = block * lanes + lane, sums[part, block, 1, lane], sums[part, block, 3, lane]
                offset = sums[part, block, 0, lane] - moments[0, c] + total / n
                moments[1, c] += sums[part, block, 2, lane] - total * total / n + n * offset * offset
    values = flat(y)
    for c in range(channels):
        mean, var = moments[0, c], moments[1, c] / count
        if var != 0.0 and not channel.is_trusted(y, 0.0, var):
            mean, var = channel.in_two_passes(values, y.shape[0], channels, y.shape[2], c)
        moments[0, c], moments[1, c] = mean, var


@kernel
def take_moments(moments, count, running_mean, running_var, momentum, eps, mean, inv_std):
    """Overwrite mean and inv_std (C,) from moments (2, C) of `count` values each, and move the running statistics."""
    running = running_mean, running_var, momentum, eps
    for c in range(mean.size):
        mean[c] = moments[0, c]
        inv_std[c] = 1.0 / np.sqrt(moments[1, c] + eps)
        channel.move_running(moments[0, c], moments[1, c], count, c, running)
