"""Batch norm by given statistics: one pass, each value once."""

import math

import numpy as np

from nbnorm._jit import kernel, prange
from nbnorm.kernels import columns, spans
from nbnorm.kernels.rows import STREAM_BYTES
from nbnorm.simd.vectors import flat, lanes_of

TASK_ELEMENTS = 16 * 1024


@kernel
def infer(x, residual, gamma, beta, running_mean, running_var, eps, relu, y):
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual]), for (N, C, L)."""
    images, channels, length = x.shape
    floor = x.dtype.type(0.0 if relu else np.nan)
    streaming = x.size * x.itemsize >= STREAM_BYTES
    factors = np.empty(columns.FACTORS * channels, x.dtype)
    xs, added, ys = flat(x), flat(residual), flat(y)
    for c in range(channels):
        factors[c] = running_mean[c]
        factors[channels + c] = gamma[c] / math.sqrt(running_var[c] + eps)
        factors[2 * channels + c] = beta[c]
    # Rows of values are taken one by one, rows of channels in blocks.
    rows = images if length == 1 else images * channels
    step = max(TASK_ELEMENTS // max(channels if length == 1 else length, 1), 1)
    for task in prange(-(-rows // step)):
        first = np.intp(task) * step
        last = min(first + step, rows)
        if length == 1:
            for c in range(0, channels, lanes_of(x)):
                part = min(lanes_of(x), channels - c)
                at = first * channels + c
                columns.normalize(xs, added, ys, at, channels, last - first, part, factors, c, floor, streaming)
        else:
            for row in range(first, last):
                c = row % channels
                own = (factors[c], factors[channels + c], factors[2 * channels + c])
                spans.normalize(xs, added, ys, row * length, 0, 1, length, own, floor, streaming)
