"""Mean and variance of each channel, of what a convolution has just computed and still holds in the cache.

They are found in chunks: sums of the deviations from a shift, and of their squares, for a vector of channels. A chunk
is an array (MOMENTS, lanes) in float64: the shift, the sum of deviations, the sum of their squares, the number of
values. Chunks are put together as Chan, Golub and LeVeque do ("Algorithms for Computing the Sample Variance", 1983):

    mean = sum of (n_i shift_i + total_i) / n
    var = sum of (squares_i - total_i^2 / n_i + n_i (shift_i + total_i / n_i - mean)^2) / n
"""

import numpy as np

from nbnorm.jit import device, kernel
from nbnorm.kernels import statistics
from nbnorm.kernels.runs import Channel
from nbnorm.simd.memory import flat
from nbnorm.simd.vectors import add, fma, lanes_of, load, splat, store, subtract

__all__ = ["MOMENTS", "add_moments", "combine_moments", "take_moments"]

SHIFT, TOTAL, SQUARES, COUNT = range(4)  # what a chunk has for each channel
MOMENTS = 4


@device
def _sampled_shift(memory, first_pixel, pixels):
    """Mean of the first vectors, near that of all; equal ones give exactly their value."""
    lanes, few = lanes_of(memory), min(pixels, statistics.SAMPLES)
    first = load(memory, first_pixel)
    total = splat(memory.dtype.type(0))
    for p in range(1, few):
        total = add(total, subtract(load(memory, first_pixel + p * lanes), first))
    return statistics.shift_of_samples(first, total, few, memory)


@device
def add_moments(memory, first_pixel, pixels, is_first, spare, sums, chunk):
    """Add `pixels` vectors of memory[first_pixel:] to the chunk at sums[chunk:]; the first ones choose its shift.

    memory[spare:] has room for MOMENTS vectors, and is the chunk's own as long as it grows. Sums of one call are made
    in float32.
    """
    lanes = lanes_of(memory)
    if is_first:
        store(memory, spare, _sampled_shift(memory, first_pixel, pixels))
        for lane in range(chunk, chunk + lanes):
            sums[lane + SHIFT * lanes] = memory[spare + lane - chunk]
            sums[lane + TOTAL * lanes] = sums[lane + SQUARES * lanes] = sums[lane + COUNT * lanes] = 0.0
    shift = load(memory, spare)
    total = other = squares = more = splat(memory.dtype.type(0))
    for p in range(first_pixel, first_pixel + pixels // 2 * 2 * lanes, 2 * lanes):
        a, b = subtract(load(memory, p), shift), subtract(load(memory, p + lanes), shift)
        total, squares = add(total, a), fma(a, a, squares)
        other, more = add(other, b), fma(b, b, more)
    if pixels % 2:
        a = subtract(load(memory, first_pixel + (pixels - 1) * lanes), shift)
        total, squares = add(total, a), fma(a, a, squares)
    store(memory, spare + TOTAL * lanes, add(total, other))
    store(memory, spare + SQUARES * lanes, add(squares, more))
    for i in range(TOTAL * lanes, COUNT * lanes):
        sums[chunk + i] += memory[spare + i]
    for i in range(COUNT * lanes, MOMENTS * lanes):
        sums[chunk + i] += pixels


@device
def _add_means(sums, moments):
    """moments[0] = the mean, of all chunks."""
    chunks, blocks, _, lanes = sums.shape
    channels = moments.shape[1]
    for chunk in range(chunks):
        for block in range(blocks):
            for lane in range(min(lanes, channels - block * lanes)):
                offset = sums[chunk, block, SHIFT, lane] - sums[0, block, SHIFT, lane]
                total, n = sums[chunk, block, TOTAL, lane], sums[chunk, block, COUNT, lane]
                moments[0, block * lanes + lane] += n * offset + total


@device
def _add_squares(sums, moments):
    """moments[1] += the sum of the squares of all deviations from the mean."""
    chunks, blocks, _, lanes = sums.shape
    channels = moments.shape[1]
    for chunk in range(chunks):
        for block in range(blocks):
            for lane in range(min(lanes, channels - block * lanes)):
                c, total, n = block * lanes + lane, sums[chunk, block, TOTAL, lane], sums[chunk, block, COUNT, lane]
                offset = sums[chunk, block, SHIFT, lane] - moments[0, c] + total / n
                moments[1, c] += sums[chunk, block, SQUARES, lane] - total * total / n + n * offset * offset


@kernel
def combine_moments(sums, y, moments):
    """Overwrite moments (2, C) with the mean and the biased variance of each channel of y (N, C, L), in float64.

    sums: (chunks, blocks, MOMENTS, lanes), where channel c is lane c % lanes of block c // lanes.
    """
    images, channels, length = y.shape
    lanes, count = sums.shape[3], images * length
    moments[:] = 0.0
    _add_means(sums, moments)
    for c in range(channels):
        moments[0, c] = sums[0, c // lanes, SHIFT, c % lanes] + moments[0, c] / count
    _add_squares(sums, moments)
    values = flat(y)
    for c in range(channels):
        mean, var = moments[0, c], moments[1, c] / count
        if var != 0.0 and not statistics.is_trusted(y, 0.0, var):
            mean, var = statistics.in_two_passes(values, Channel(images, channels, length, c))
        moments[0, c], moments[1, c] = mean, var


@kernel
def take_moments(moments, count, running_mean, running_var, momentum, eps, mean, inv_std):
    """Overwrite mean and inv_std (C,) from moments (2, C) of `count` values each, and move the running statistics."""
    for c in range(mean.size):
        mean[c] = moments[0, c]
        inv_std[c] = 1.0 / np.sqrt(moments[1, c] + eps)
        statistics.move_running(moments[0, c], moments[1, c], count, c, running_mean, running_var, momentum)
