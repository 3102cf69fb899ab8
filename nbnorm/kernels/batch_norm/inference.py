"""Batch norm by given statistics: one pass, each value once."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops
from nbnorm.kernels.batch_norm.channels_last import loops as columns
from nbnorm.kernels.batch_norm.channels_last.loops import STREAM_BYTES
from nbnorm.simd.memory import borrowed, flat

TASK_ELEMENTS = 16 * 1024


@device
def _task(task, step, x, residual, relu, factors, y):
    images, channels, length = x.shape
    xs, added, ys = flat(x), flat(residual), flat(y)
    floor = x.dtype.type(0.0 if relu else np.nan)
    streaming = x.size * x.itemsize >= STREAM_BYTES
    rows = images if length == 1 else images * channels
    first = task * step
    last = first + step if first + step < rows else rows
    if length == 1:
        columns.normalize(
            xs, added, ys, first * channels, channels, last - first, channels, factors, 0, floor, streaming
        )
    else:
        while first < last:
            c = first % channels
            count = min(last - first, channels - c)
            loops.normalize(xs, added, ys, first * length, 0, 1, length, count, factors, 3 * c, 3, floor, 0, streaming)
            first += count


@kernel
def infer(x, residual, gamma, beta, running_mean, running_var, eps, relu, factors, y):
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual]), for (N, C, L).

    Written: factors (FACTORS * C), y.
    """
    x, residual, factors, y = borrowed(x), borrowed(residual), borrowed(factors), borrowed(y)
    images, channels, length = x.shape
    step, each = (channels, 1) if length == 1 else (1, 3)  # as `columns` and as `spans` have them
    for c in range(channels):
        scale = gamma[c] / math.sqrt(running_var[c] + eps)
        center = factors.dtype.type(running_mean[c])
        rounded = 0.0 if center == running_mean[c] else running_mean[c] - center  # statistics may be float64
        factors[each * c] = center
        factors[step + each * c] = scale
        factors[2 * step + each * c] = beta[c] - rounded * scale
    # Rows of values are taken one by one, rows of channels (length 1) together.
    rows = images if length == 1 else images * channels
    row = channels if length == 1 else length
    step = 1 if row > TASK_ELEMENTS else TASK_ELEMENTS // row
    for task in prange(-(-rows // step)):
        _task(np.intp(task), step, x, residual, relu, factors, y)
