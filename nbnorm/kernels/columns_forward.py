"""Batch norm's training forward pass over columns: (M, C, 1). See `columns`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, columns
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE
from nbnorm.simd.vectors import flat, lanes_of


@device
def _sums(x, channels, r0, r1, c0, c1, shifts, partial, at):
    """partial[at + c] and partial[at + channels + c] = the sums of deviations of rows r0 to r1"""
    lanes = lanes_of(x)
    width = -(-(c1 - c0) // lanes) * lanes
    totals = np.zeros(2 * width)
    for r in range(r0, r1, columns.BLOCK_ROWS):
        count = columns.BLOCK_ROWS if r + columns.BLOCK_ROWS < r1 else r1 - r
        for t in range(0, c1 - c0, lanes):
            part = lanes if c0 + t + lanes <= c1 else c1 - c0 - t
            columns.add_deviations(
                x, r * channels + c0 + t, channels, count, part, shifts, c0 + t, totals, t, width + t
            )
    for c in range(c0, c1):
        partial[at + c] = totals[c - c0]
        partial[at + channels + c] = totals[width + c - c0]


@device
def _normalize(x, residual, y, channels, r0, r1, c0, c1, factors, floor, streaming):
    lanes = lanes_of(x)
    block = columns.BLOCK_ROWS
    for r in range(r0 + (r1 - r0 - 1) // block * block, r0 - 1, -block):
        count = block if r + block < r1 else r1 - r
        for c in range(c0, c1, lanes):
            part = lanes if c + lanes <= c1 else c1 - c
            columns.normalize(x, residual, y, r * channels + c, channels, count, part, factors, c, floor, streaming)


@device
def _task(
    phase, task, plan, shape, x, residual, gamma, beta, running, floor, shifts, partial, factors, mean, inv_std, y
):
    width, height, streaming = plan
    rows, channels, _ = shape
    running_mean, running_var, momentum, eps = running
    parts = -(-rows // height)
    across = -(-channels // width)
    c0 = task if phase == FINISH else task % across * width
    c1 = min(c0 + (1 if phase == FINISH else width), channels)
    r0 = task // across * height
    r1 = min(r0 + height, rows)
    if phase & SUM:
        _sums(x, channels, r0, r1, c0, c1, shifts, partial, task // across * 2 * channels)
    if phase & FINISH:
        for c in range(c0, c1):
            total = squares = 0.0
            for p in range(parts):
                total += partial[2 * p * channels + c]
                squares += partial[(2 * p + 1) * channels + c]
            m, var = channel.statistics(x, rows, channels, 1, c, shifts[c], total, squares)
            channel.store_statistics(m, var, rows, c, momentum, eps, running_mean, running_var, mean, inv_std)
            factors[c], factors[channels + c], factors[2 * channels + c] = channel.factors(
                mean, inv_std, gamma, beta, c
            )
    if phase & APPLY:
        _normalize(x, residual, y, channels, r0, r1, c0, c1, factors, floor, streaming)


@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (M, C, 1); residual like x, or empty; running_*: (C,), or empty. Written: mean, inv_std (float64), y.
    """
    width, height, _ = plan
    shape = x.shape
    rows, channels, _ = shape
    parts = -(-rows // height)
    floor = x.dtype.type(0.0 if relu else np.nan)
    shifts = np.empty(channels, x.dtype)
    factors = np.empty(columns.FACTORS * channels, x.dtype)
    partial = np.empty(parts * 2 * channels)
    xs, added, ys = flat(x), flat(residual), flat(y)
    running = (running_mean, running_var, momentum, eps)
    columns.sampled_shifts(xs, rows, channels, shifts)
    phases = 1 if parts == 1 and width < channels else 3
    for k in range(phases):
        phase = WHOLE if phases == 1 else 1 << k
        tasks = channels if phase == FINISH else -(-channels // width) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), plan, shape, xs, added, gamma, beta, running, floor, shifts, partial, factors,
                mean, inv_std, ys,
            )  # fmt: skip
