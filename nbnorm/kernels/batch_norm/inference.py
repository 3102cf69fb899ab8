"""Batch norm by given statistics: one pass, each value once."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops
from nbnorm.kernels.batch_norm.channels_last import loops as column_loops
from nbnorm.kernels.batch_norm.channels_last.cut import STREAM_BYTES
from nbnorm.kernels.batch_norm.fold import fixed_factors
from nbnorm.kernels.runs import CENTER, SCALE, SHIFT, Runs, Stores, Table
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.memory import borrowed, flat

# Elements of a task: a smaller one takes less time than a thread needs to begin it, larger ones let threads idle.
# Found with `benchmarks.peers batch-norm` on 4 cores of an AVX-512 Xeon, 2026-11.
TASK_ELEMENTS = 16 * 1024
KINDS = len(Factors._fields)  # of factors of each channel


@device
def _task(task, height, x, residual, relu, factors, y):
    images, channels, length = x.shape
    xs, added, ys = flat(x), flat(residual), flat(y)
    floor = x.dtype.type(0.0 if relu else np.nan)
    streaming = x.size * x.itemsize >= STREAM_BYTES
    rows = images if length == 1 else images * channels
    row = task * height
    end = row + height if row + height < rows else rows
    if length == 1:
        runs = Runs(row * channels, channels, end - row, channels)
        column_loops.normalize(xs, added, ys, runs, factors, 0, floor, streaming)
    else:
        while row < end:
            c = row % channels
            count = min(end - row, channels - c)
            table = Table(factors, KINDS * c, KINDS)
            loops.normalize(xs, added, ys, Runs(row * length, 0, 1, length), count, table, floor, Stores(0, streaming))
            row += count


@kernel
def infer(x, residual, gamma, beta, running_mean, running_var, eps, relu, y):
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual]), for (N, C, L)."""
    x, residual, y = borrowed(x), borrowed(residual), borrowed(y)
    images, channels, length = x.shape
    room = np.empty(KINDS * channels, x.dtype)
    factors = borrowed(room)
    pitch, each = (channels, 1) if length == 1 else (1, KINDS)  # as the loops over columns and over rows have them
    affine, given, as_values = (gamma, beta), (running_mean, running_var), factors.dtype.type
    for c in range(channels):
        own = fixed_factors(affine, given, eps, c, as_values)
        factors[CENTER * pitch + each * c] = own.center
        factors[SCALE * pitch + each * c] = own.scale
        factors[SHIFT * pitch + each * c] = own.shift
    # Rows of values are taken one by one, rows of channels (length 1) together.
    rows = images if length == 1 else images * channels
    row = channels if length == 1 else length
    height = 1 if row > TASK_ELEMENTS else TASK_ELEMENTS // row
    for task in prange(-(-rows // height)):
        _task(np.intp(task), height, x, residual, relu, factors, y)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use
