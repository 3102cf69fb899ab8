"""Arithmetic on one channel of batch norm: from sums to statistics to the factors of the elementwise passes.

A channel is the elements (n * channels + c) * length + i of a flat array, for n below `images` and i below `length`.
"""

import numpy as np

from nbnorm.jit import device

SAMPLE_BITS = 4
SAMPLES = 1 << SAMPLE_BITS


@device
def sampled_shift(x, images, channels, length, c):
    """Mean of a few values spread over the channel: near enough to its mean that deviations from it do not cancel.

    A constant channel gives exactly its constant: the first value plus the mean of differences to it.
    """
    first = x[c * length]
    total = first - first
    for k in range(SAMPLES):
        n = k * images >> SAMPLE_BITS  # a division would cost more than all the rest
        i = k * length >> SAMPLE_BITS
        total += x[(n * channels + c) * length + i] - first
    return first + total / x.dtype.type(SAMPLES)


@device
def is_trusted(x, offset, var):
    """Whether the shift was within a standard deviation of the mean, and float32 neither overflowed nor vanished."""
    smallest = 1e-25 if x.itemsize == 4 else 1e-280
    return (offset * offset <= var) & (smallest < var) & (var < np.inf)


@device
def statistics(x, images, channels, length, c, shift, total, squares):
    """Mean and biased variance from the sums of the deviations from `shift` and of their squares.

    Where these cannot be trusted (the shift was further than a standard deviation from the mean, float32 overflowed or
    vanished, a NaN came) they are computed anew in float64, in two passes.
    """
    each = 1.0 / (images * length)
    offset = total * each
    var = squares * each - offset * offset
    if total == 0.0 and squares == 0.0:
        return float(shift), 0.0
    if is_trusted(x, offset, var):
        return shift + offset, var
    return in_two_passes(x, images, channels, length, c)


@device
def in_two_passes(x, images, channels, length, c):
    mean = var = 0.0
    for _ in range(3):  # the third pass only improves the mean
        total = squares = 0.0
        for n in range(images):
            at = (n * channels + c) * length
            for i in range(at, at + length):
                d = float(x[i]) - mean
                total += d
                squares += d * d
        offset = total / (images * length)
        mean += offset
        var = squares / (images * length) - offset * offset
    return mean, var


@device
def move_running(mean, var, count, c, running):
    """Move the running statistics of a channel (the variance unbiased) towards those of the batch."""
    running_mean, running_var, momentum, _ = running
    if running_mean.size > 0:
        running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * mean
    if running_var.size > 0:
        running_var[c] = (1.0 - momentum) * running_var[c] + momentum * (var * count / (count - 1))


@device
def factors(mean, inv_std, gamma, beta, c):
    """center, scale, shift of channel c such that y = (x - center) * scale + shift, in gamma's type.

    The center is the mean rounded; what rounding took away is in the shift. The difference x - center is exact where x
    is near the mean, so no digits are lost when the mean is large against the deviations.
    """
    as_values = gamma.dtype.type
    center = as_values(mean[c])
    scale = gamma[c] * inv_std[c]
    return center, as_values(scale), as_values(beta[c] - (mean[c] - float(center)) * scale)


@device
def gradient_sums(dy, x, y, images, channels, length, c, factors, floor, by_output):
    """The sums of g and g * (x - center) in float64: for channels where float32 overflowed or a NaN came."""
    center, scale, shift = factors
    total = product = 0.0
    for n in range(images):
        at = (n * channels + c) * length
        for i in range(at, at + length):
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
