"""Batch norm's training forward pass over rows: (N, C, L) with L > 1. See `rows`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops
from nbnorm.kernels import statistics as channel
from nbnorm.kernels.batch_norm.channels_first.cut import (
    APPLY,
    SUM,
    WHOLE,
    add_lanes,
    bounds,
    clear_sums,
    keep_factors,
    kept_of,
    kept_step,
    slot_of,
)
from nbnorm.kernels.loops import SAMPLED
from nbnorm.simd.memory import borrowed, flat, reinterpreted
from nbnorm.simd.vectors import lanes_of


@device
def _finish(x, c, parts, gamma, beta, running, scratch, mean, inv_std):
    """The statistics of channel c from the sums of its parts, and the factors that follow."""
    images, channels, length = x.shape
    count = images * length
    total = squares = 0.0
    for p in range(c * parts, (c + 1) * parts):
        total += scratch[slot_of(x, p)]
        squares += scratch[slot_of(x, p) + lanes_of(x)]
    table, k = reinterpreted(scratch, x), kept_of(x, c * parts)
    shift = table[k + SAMPLED]
    mean[c], var = channel.statistics(flat(x), images, channels, length, c, shift, total, squares)
    inv_std[c] = 1.0 / math.sqrt(var + running[3])
    channel.move_running(mean[c], var, count, c, running)
    keep_factors(table, k, channel.factors(mean, inv_std, gamma, beta, c))


@device
def _task(phase, task, cut, x, residual, gamma, beta, running, relu, scratch, mean, inv_std, y):
    group, parts, rows, step, ahead, streaming = cut
    images, channels, length = x.shape
    xs, added, ys, stride = flat(x), flat(residual), flat(y), channels * length
    first = task // parts * group
    last = first + group if first + group < channels else channels
    part, table = task % parts, reinterpreted(scratch, x)
    n0, n1, i0, i1 = bounds(part, parts, images, length)
    if phase & SUM:
        for c in range(first, last):
            p = c * parts + part
            clear_sums(x, scratch, slot_of(x, p))
            table[kept_of(x, p) + SAMPLED] = channel.sampled_shift(xs, images, channels, length, c)
        for n in range(n0, n1, rows):
            count = rows if n + rows < n1 else n1 - n
            for c in range(first, last):
                p = c * parts + part
                shift = table[kept_of(x, p) + SAMPLED]
                for i in range(i0, i1, step):
                    at = (n * channels + c) * length + i
                    width = step if i + step < i1 else i1 - i
                    loops.add_deviations(xs, at, stride, count, width, shift, scratch, slot_of(x, p))
        for c in range(first, last):
            add_lanes(x, scratch, slot_of(x, c * parts + part))
    if phase == WHOLE:
        for c in range(first, last):
            _finish(x, c, parts, gamma, beta, running, scratch, mean, inv_std)
    if phase & APPLY and y.size > 0:
        floor = x.dtype.type(0.0 if relu else np.nan)
        at = (n0 * channels + first) * length + i0
        loops.normalize(
            xs, added, ys, at, stride, n1 - n0, i1 - i0, last - first,
            table, kept_of(x, first * parts), kept_step(x, parts), floor, ahead, streaming,
        )  # fmt: skip


@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, scratch, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (N, C, L), y empty where the statistics are all that is wanted; residual like x, or empty; running_mean,
    running_var: (C,) or empty. Written: scratch, mean, inv_std (float64), y.
    """
    x, residual, gamma, beta = borrowed(x), borrowed(residual), borrowed(gamma), borrowed(beta)
    scratch, mean, inv_std, y = borrowed(scratch), borrowed(mean), borrowed(inv_std), borrowed(y)
    running = borrowed(running_mean), borrowed(running_var), momentum, eps
    cut = plan[0], plan[1], plan[2], plan[3], plan[4], plan[5] > 0
    group, parts = plan[0], plan[1]
    channels = x.shape[1]
    tasks = -(-channels // group) * parts
    for k in range(1 if parts == 1 else 2):
        phase = WHOLE if parts == 1 else SUM if k == 0 else APPLY
        for c in range(channels if phase == APPLY else 0):
            _finish(x, c, parts, gamma, beta, running, scratch, mean, inv_std)
        for task in prange(tasks):
            _task(phase, np.intp(task), cut, x, residual, gamma, beta, running, relu, scratch, mean, inv_std, y)
