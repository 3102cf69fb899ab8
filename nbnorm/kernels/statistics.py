"""Arithmetic on one channel of a norm: from sums to statistics to the factors of the elementwise passes."""

import math
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.simd.masks import load_part
from nbnorm.simd.vectors import add, fma, splat, subtract

# Values whose mean is the shift of the sums. With fewer, an outlier among them moves it too far more often, and all is
# computed anew in two passes; more would cost small channels more than they save. A power of two, because a division
# by anything else would cost more than all the rest.
SAMPLE_BITS = 4
SAMPLES = 1 << SAMPLE_BITS
# Variances below this are computed anew: squares of float32 (or float64) deviations so small lose digits or vanish.
SMALLEST_FLOAT32, SMALLEST_FLOAT64 = 1e-25, 1e-280


class Factors(NamedTuple):
    """y = (x - center) * scale + shift: of one channel, or of as many as a vector has lanes."""

    center: Any
    scale: Any
    shift: Any


@device
def sampled_shift(x, channel):
    """Mean of a few values spread over the channel: near enough to its mean that deviations from it do not cancel.

    A constant channel gives exactly its constant: the first value plus the mean of differences to it.
    """
    images, channels, length, c = channel
    first = x[c * length]
    total = x.dtype.type(0)
    for k in range(SAMPLES):
        n = k * images >> SAMPLE_BITS
        i = k * length >> SAMPLE_BITS
        total += x[(n * channels + c) * length + i] - first
    return first + total / x.dtype.type(SAMPLES)


@device
def shift_of_samples(first, total, count, x):
    """The same of a vector of channels: the first value of each, plus the mean of `count` differences to it."""
    return fma(total, splat(x.dtype.type(1 / count)), first)


@device
def sampled_shifts(x, rows, channels, c, width):
    """`sampled_shift` of `width` channels from c on, at most a vector of them, where x has `rows` of all channels."""
    zero = splat(x.dtype.type(0))
    first = load_part(x, c, width, zero)
    total = zero
    for k in range(1, SAMPLES):
        x_row = (k * rows >> SAMPLE_BITS) * channels
        total = add(total, subtract(load_part(x, x_row + c, width, zero), first))
    return shift_of_samples(first, total, SAMPLES, x)


@device
def is_trusted(x, offset, var):
    """Whether the shift was within a standard deviation of the mean, and float32 neither overflowed nor vanished."""
    smallest = SMALLEST_FLOAT32 if x.itemsize == 4 else SMALLEST_FLOAT64
    return (offset * offset <= var) & (smallest < var) & (var < np.inf)


@device
def statistics(x, channel, shift, total, squares):
    """Mean and biased variance from the sums of the deviations from `shift` and of their squares.

    Where these cannot be trusted (the shift was further than a standard deviation from the mean, float32 overflowed or
    vanished, a NaN came) they are computed anew in float64, in two passes.
    """
    each = 1.0 / (channel.images * channel.length)
    offset = total * each
    var = squares * each - offset * offset
    if total == 0.0 and squares == 0.0:
        return float(shift), 0.0
    if is_trusted(x, offset, var):
        return shift + offset, var
    return in_two_passes(x, channel)


@device
def in_two_passes(x, channel):
    """Mean and biased variance, whatever the values."""
    images, channels, length, c = channel
    mean = var = 0.0
    for _ in range(3):  # the third pass only improves the mean
        total = squares = 0.0
        for n in range(images):
            start = (n * channels + c) * length
            for i in range(start, start + length):
                d = float(x[i]) - mean
                total += d
                squares += d * d
        offset = total / (images * length)
        mean += offset
        var = squares / (images * length) - offset * offset
    return mean, var


@device
def move_running(mean, var, count, c, running_mean, running_var, momentum):
    """Move the running statistics of channel c (the variance unbiased) towards those of the batch."""
    if running_mean.size > 0:
        running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * mean
    if running_var.size > 0:
        running_var[c] = (1.0 - momentum) * running_var[c] + momentum * (var * count / (count - 1))


@device
def renormalized(c, mean, inv_std, parameters):
    """gamma and beta of the batch norm that does what renormalization does to channel c. See `batch_norm.renorm`.

    The running statistics have not moved yet. The very operations of `batch_norm.renorm.corrections`.
    """
    gamma, beta = parameters.gamma[c], parameters.beta[c]
    as_values = parameters.gamma.dtype.type
    inverse = 1.0 / math.sqrt(float(parameters.running_var[c]) + parameters.eps)
    r = min(max(inverse / inv_std, 1.0 / parameters.rmax), parameters.rmax)
    d = min(max((mean - parameters.running_mean[c]) * inverse, -parameters.dmax), parameters.dmax)
    return as_values(gamma * r), as_values(beta + gamma * d)


@device
def factors(mean, inv_std, gamma, beta, c):
    """Factors of channel c, in gamma's type.

    The center is the mean rounded; what rounding took away is in the shift. The difference x - center is exact where x
    is near the mean, so no digits are lost when the mean is large against the deviations.
    """
    return factors_by(mean[c], inv_std[c], gamma[c], beta[c], gamma)


@device
def factors_by(mean, inv_std, gamma, beta, values):
    """The same of one channel's numbers, in the type of `values`."""
    as_values = values.dtype.type
    center = as_values(mean)
    scale = gamma * inv_std
    return Factors(center, as_values(scale), as_values(beta - (mean - float(center)) * scale))


@device
def gradient_sums(gated, channel, factors):
    """The sums of g and g * (x - center) in float64: for channels where float32 overflowed or a NaN came."""
    dy, x, y, floor, by_output = gated
    images, channels, length, c = channel
    center, scale, shift = factors
    total = product = 0.0
    for n in range(images):
        start = (n * channels + c) * length
        for i in range(start, start + length):
            v = y[i] if by_output else (x[i] - center) * scale + shift
            if not v <= floor:
                total += dy[i]
                product += float(dy[i]) * (float(x[i]) - center)
    return total, product


@device
def gradient_factors(total, product, each, mean, inv_std, center):
    """dgamma, slope, offset such that dx = scale * (g - offset - (x - center) * slope); each is 1 / n."""
    rounded = mean - float(center)
    product -= rounded * total
    slope = product * each * inv_std * inv_std
    return product * inv_std, slope, total * each - rounded * slope
