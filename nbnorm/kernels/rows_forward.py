"""Batch norm's training forward pass over rows: (N, C, L) with L > 1. See `rows`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, spans
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE, bounds, slot_of, sum_lanes
from nbnorm.simd.vectors import flat, lanes_of


@device
def _task(phase, task, plan, x, residual, gamma, beta, running, relu, scratch, mean, inv_std, y):
    group, parts, rows, step, streaming = plan
    images, channels, length = x.shape
    xs, added, ys, stride, lanes = flat(x), flat(residual), flat(y), channels * length, lanes_of(x)
    first = task if phase == FINISH else task // parts * group
    last = first + group if first + group < channels else channels
    part = task % parts
    n0, n1, i0, i1 = bounds(part, parts, images, length)
    if phase & SUM:
        for c in range(first, last):
            t = slot_of(x, c * parts + part)
            scratch[t : t + 2 * lanes] = 0.0
            scratch[t + 2 * lanes] = channel.sampled_shift(xs, images, channels, length, c)
        for n in range(n0, n1, rows):
            count = rows if n + rows < n1 else n1 - n
            for c in range(first, last):
                t = slot_of(x, c * parts + part)
                shift = x.dtype.type(scratch[t + 2 * lanes])
                for i in range(i0, i1, step):
                    at = (n * channels + c) * length + i
                    width = step if i + step < i1 else i1 - i
                    spans.add_deviations(xs, at, stride, count, width, shift, scratch, t)
        for c in range(first, last):
            sum_lanes(scratch, slot_of(x, c * parts + part), lanes)
    if phase & FINISH:
        for c in range(first, last):
            total = squares = 0.0
            for p in range(c * parts, (c + 1) * parts):
                total += scratch[slot_of(x, p)]
                squares += scratch[slot_of(x, p) + lanes]
            shift = x.dtype.type(scratch[slot_of(x, c * parts) + 2 * lanes])
            m, var = channel.statistics(xs, images, channels, length, c, shift, total, squares)
            channel.store_statistics(m, var, images * length, c, running, mean, inv_std)
    if phase & APPLY:
        floor = x.dtype.type(0.0 if relu else np.nan)
        for n in range(n0 + (n1 - n0 - 1) // rows * rows, n0 - 1, -rows):
            count = rows if n + rows < n1 else n1 - n
            for c in range(first, last):
                factors = channel.factors(mean, inv_std, gamma, beta, c)
                at = (n * channels + c) * length + i0
                spans.normalize(xs, added, ys, at, stride, count, i1 - i0, factors, floor, streaming)


@kernel
def forward(x, residual, gamma, beta, running, relu, plan, scratch, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (N, C, L); residual like x, or empty; running: (running_mean, running_var, momentum, eps), the arrays (C,) or
    empty. Written: scratch, mean, inv_std (float64), y.
    """
    group, parts, _, _, _ = plan
    channels = x.shape[1]
    for k in range(1 if parts == 1 else 3):
        phase = WHOLE if parts == 1 else 1 << k
        tasks = channels if phase == FINISH else -(-channels // group) * parts
        for task in prange(tasks):
            _task(phase, np.intp(task), plan, x, residual, gamma, beta, running, relu, scratch, mean, inv_std, y)
