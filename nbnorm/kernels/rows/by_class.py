"""Conditional batch norm: statistics of a channel of the whole batch, a scale and a shift for each class of a sample.

    x_hat = (x - mean[c]) * inv_std[c], y = gamma[label[n], c] x_hat + beta[label[n], c]
    dgamma[k, c] = sum dy x_hat, dbeta[k, c] = sum dy, over the samples of class k
    dx = inv_std[c] (gamma dy - mean(gamma dy) - x_hat mean(gamma dy x_hat)), with means over the batch

Arrays are (N, C, L); a label is a class in any case: whoever calls has looked at them. The loops over a channel of a
sample are those of `channels`. Sums of samples are kept and added in order: the bits do not depend on the threads.
"""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.channels.backward import Line, differentiate_channel, sums_of_channel
from nbnorm.kernels.rows.channels.forward import channel_factors, normalize_channel
from nbnorm.kernels.runs import Channel, Gated
from nbnorm.kernels.statistics import gradient_sums
from nbnorm.simd.memory import flat

__all__ = ["SUMS", "backward", "forward"]

SUMS = 2  # float64 that `backward` keeps of each channel of each sample: those of dy and of dy (x - mean)
# Elements of a task, at least: fewer take less time than a thread needs to begin them. As those of rows, `cut`.
TASK_ELEMENTS = 16 * 1024


@device
def _samples_of_task(images, size):
    """How many samples of so many elements a task takes."""
    return min(max(TASK_ELEMENTS // max(size, 1), 1), images)


@kernel
def forward(x, label, gamma, beta, mean, var, eps, y):
    """Write y by given statistics, (C,); gamma and beta: (classes, C)."""
    images, channels, length = x.shape
    height = _samples_of_task(images, channels * length)
    for task in prange(-(-images // height)):
        xs, result, absent = flat(x), flat(y), flat(x)[:0]
        gammas, betas = flat(gamma), flat(beta)
        first = np.intp(task) * height
        for n in range(first, min(first + height, images)):
            own = np.intp(label[n]) * channels
            for c in range(channels):
                inv_std = 1.0 / math.sqrt(float(var[c]) + eps)
                factors = channel_factors(xs, float(mean[c]), inv_std, gammas, betas, own + c)
                i = (n * channels + c) * length
                normalize_channel(xs, absent, result, i, length, factors, xs.dtype.type(np.nan), False)


@device
def _sums(gated, shape, n, label, tables, stats, sums):
    """The sums of all channels of sample n."""
    images, channels, length = shape
    x = gated.x
    for c in range(channels):
        factors = channel_factors(x, stats[0][c], stats[1][c], tables[0], tables[1], np.intp(label[n]) * channels + c)
        k = n * channels + c
        s, p = sums_of_channel(gated, x[:0], k * length, length, factors)
        if not -np.inf < s + p < np.inf:
            s, p = gradient_sums(gated, Channel(1, images * channels, length, k), factors)
        sums[SUMS * k] = s
        sums[SUMS * k + 1] = p - (stats[0][c] - float(factors.center)) * s


@device
def _tables(shape, c, label, gamma, stats, sums, gradients, lines):
    """The gradients of the tables' column c, and the slope and the offset of its dx."""
    images, channels, length = shape
    dgamma, dbeta = gradients
    for k in range(c, gamma.size, channels):
        dgamma[k] = dbeta[k] = 0.0
    inv_std, total, product = stats[1][c], 0.0, 0.0
    for n in range(images):
        own, k = np.intp(label[n]) * channels + c, SUMS * (n * channels + c)
        total += sums[k] * gamma[own]
        product += sums[k + 1] * gamma[own]
        dgamma[own] += sums[k + 1] * inv_std
        dbeta[own] += sums[k]
    each = 1.0 / (images * length)
    slope = -product * each * inv_std * inv_std
    rounded = stats[0][c] - float(gamma.dtype.type(stats[0][c]))
    lines[SUMS * c] = slope
    lines[SUMS * c + 1] = -total * each - slope * rounded


@kernel
def backward(dy, x, label, gamma, stats, sums, lines, dx, tables):
    """Write dx (not where it is empty) and tables = (dgamma, dbeta), float64 (classes, C).

    stats = (mean, inv_std), float64 (C,). Room: sums, float64 (N * C * `SUMS`,), and lines, float64 (C * `SUMS`,). dx
    may be dy.
    """
    images, channels, length = x.shape
    height = _samples_of_task(images, channels * length)
    for task in prange(-(-images // height)):
        nan = x.dtype.type(np.nan)
        gated = Gated(flat(dy), flat(x), flat(x)[:0], nan, False)
        affine, known = (flat(gamma), flat(gamma)), (flat(stats[0]), flat(stats[1]))
        first = np.intp(task) * height
        for n in range(first, min(first + height, images)):
            _sums(gated, (images, channels, length), n, label, affine, known, flat(sums))
    for task in prange(channels):
        known, gradients = (flat(stats[0]), flat(stats[1])), (flat(tables[0]), flat(tables[1]))
        _tables(
            (images, channels, length), np.intp(task), label, flat(gamma), known, flat(sums), gradients, flat(lines)
        )
    for task in prange(-(-images // height) if dx.size > 0 else 0):
        as_values = x.dtype.type
        gated = Gated(flat(dy), flat(x), flat(x)[:0], as_values(np.nan), False)
        gammas, mean, inv_std = flat(gamma), flat(stats[0]), flat(stats[1])
        first = np.intp(task) * height
        for n in range(first, min(first + height, images)):
            own = np.intp(label[n]) * channels
            for c in range(channels):
                line = Line(as_values(inv_std[c]), as_values(lines[SUMS * c]), as_values(lines[SUMS * c + 1]))
                factors = channel_factors(flat(x), mean[c], inv_std[c], gammas, gammas, own + c)
                differentiate_channel(
                    gated,
                    flat(dx),
                    (n * channels + c) * length,
                    length,
                    factors,
                    gammas[own + c],
                    line,
                    False,
                )
