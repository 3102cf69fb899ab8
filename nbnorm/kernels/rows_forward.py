"""Batch norm's training forward pass over rows: (N, C, L) with L > 1. See `rows`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, spans
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE, bounds, sum_lanes
from nbnorm.simd.vectors import flat, lanes_of


@device
def _sums(x, shape, plan, first, last, box, shifts, totals):
    """Fill totals (two vectors for each channel from `first` on) with the sums of deviations over a box."""
    _, channels, length = shape
    _, _, rows, step, _ = plan
    n0, n1, i0, i1 = box
    lanes = lanes_of(x)
    for t in range(totals.size):
        totals[t] = 0.0
    for n in range(n0, n1, rows):
        count = rows if n + rows < n1 else n1 - n
        for c in range(first, last):
            for i in range(i0, i1, step):
                at = (n * channels + c) * length + i
                width = step if i + step < i1 else i1 - i
                t = (c - first) * 2 * lanes
                spans.add_deviations(x, at, channels * length, count, width, shifts[c - first], totals, t)


@device
def _normalize(x, residual, gamma, beta, mean, inv_std, floor, y, shape, plan, first, last, box):
    _, channels, length = shape
    _, _, rows, _, streaming = plan
    n0, n1, i0, i1 = box
    for n in range(n0 + (n1 - n0 - 1) // rows * rows, n0 - 1, -rows):
        count = rows if n + rows < n1 else n1 - n
        for c in range(first, last):
            factors = channel.factors(mean, inv_std, gamma, beta, c)
            at = (n * channels + c) * length + i0
            spans.normalize(x, residual, y, at, channels * length, count, i1 - i0, factors, floor, streaming)


@device
def _task(phase, task, plan, shape, x, residual, gamma, beta, running, floor, shifts, partial, mean, inv_std, y):
    group, parts, _, _, _ = plan
    images, channels, length = shape
    running_mean, running_var, momentum, eps = running
    count = images * length
    first = task if phase == FINISH else task // parts * group
    last = first + group if first + group < channels else channels
    box = bounds(task % parts, parts, images, length)
    lanes = lanes_of(x)
    if phase & SUM:
        totals = np.empty(group * 2 * lanes)
        own = shifts[first:last] if phase == WHOLE else shifts[task : task + 1]
        for c in range(first, last):
            own[c - first] = channel.sampled_shift(x, images, channels, length, c)
        _sums(x, shape, plan, first, last, box, own, totals)
        for c in range(first, last):
            p = task if phase != WHOLE else c
            partial[p, 0], partial[p, 1] = sum_lanes(totals, (c - first) * 2 * lanes, lanes)
    if phase & FINISH:
        for c in range(first, last):
            total = squares = 0.0
            for p in range(c * parts, (c + 1) * parts):
                total += partial[p, 0]
                squares += partial[p, 1]
            m, var = channel.statistics(x, images, channels, length, c, shifts[c * parts], total, squares)
            channel.store_statistics(m, var, count, c, momentum, eps, running_mean, running_var, mean, inv_std)
    if phase & APPLY:
        _normalize(x, residual, gamma, beta, mean, inv_std, floor, y, shape, plan, first, last, box)


@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (N, C, L); residual like x, or empty; running_*: (C,), or empty. Written: mean, inv_std (float64), y.
    """
    group, parts, _, _, _ = plan
    shape = x.shape
    channels = shape[1]
    floor = x.dtype.type(0.0 if relu else np.nan)
    shifts = np.empty(channels * parts, x.dtype)
    partial = np.empty((channels * parts, 2))
    xs, added, ys = flat(x), flat(residual), flat(y)
    running = (running_mean, running_var, momentum, eps)
    phases = 1 if parts == 1 else 3
    for k in range(phases):
        phase = WHOLE if phases == 1 else 1 << k
        tasks = channels if phase == FINISH else -(-channels // group) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), plan, shape, xs, added, gamma, beta, running, floor, shifts, partial, mean,
                inv_std, ys,
            )  # fmt: skip
