"""Batch norm's training forward pass over columns: (M, C, 1). See `columns`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics as channel
from nbnorm.kernels.batch_norm.channels_first.cut import APPLY, FINISH, SUM, WHOLE
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import lanes_of


@device
def _finish(x, scratch, factors, gamma, beta, running, mean, inv_std, line, c0, c1):
    """Statistics and factors of columns c0 to c1."""
    rows, channels, _ = x.shape
    running_mean, running_var, momentum, eps = running
    each, unbiased = 1.0 / rows, rows / (rows - 1)
    sampled = factors[(loops.FACTORS - 1) * channels + c0 : (loops.FACTORS - 1) * channels + c1]
    sums, squares = scratch[c0:c1], scratch[line + c0 : line + c1]
    means, variances = mean[c0:c1], inv_std[c0:c1]
    distrusted = 0
    for j in range(c1 - c0):
        offset = sums[j] * each
        var = squares[j] * each - offset * offset
        means[j] = sampled[j] + offset
        variances[j] = var
        distrusted += not channel.is_trusted(x, offset, var)
    if distrusted > 0:
        for j in range(c1 - c0):
            means[j], variances[j] = channel.statistics(
                flat(x), rows, channels, 1, c0 + j, sampled[j], sums[j], squares[j]
            )
    if running_mean.size > 0:
        moved = running_mean[c0:c1]
        for j in range(c1 - c0):
            moved[j] = (1.0 - momentum) * moved[j] + momentum * means[j]
    if running_var.size > 0:
        moved = running_var[c0:c1]
        for j in range(c1 - c0):
            moved[j] = (1.0 - momentum) * moved[j] + momentum * (variances[j] * unbiased)
    for j in range(c1 - c0):
        variances[j] = 1.0 / math.sqrt(variances[j] + eps)
    loops.store_factors(factors, mean, inv_std, gamma, beta, c0, c1)


@device
def _task(phase, task, cut, x, residual, gamma, beta, running, relu, scratch, factors, mean, inv_std, y):
    width, height, streaming = cut
    rows, channels, _ = x.shape
    xs, added, ys, lanes, block = flat(x), flat(residual), flat(y), lanes_of(x), loops.BLOCK_ROWS
    line = loops.padded(x, channels)
    across = -(-channels // width)
    c0, r0 = task % across * width, task // across * height
    c1 = c0 + width if c0 + width < channels else channels
    if phase == FINISH:
        c0 = task * loops.FINISHED
        c1 = min(c0 + loops.FINISHED, channels)
    r1 = r0 + height if r0 + height < rows else rows
    if phase & SUM:
        at = task // across * 2 * line
        for t in range(c0, -(-c1 // lanes) * lanes):
            scratch[at + t] = scratch[at + line + t] = 0.0
        for r in range(r0, r1, block):
            count = block if r + block < r1 else r1 - r
            for c in range(c0, c1, lanes):
                part = lanes if c + lanes <= c1 else c1 - c
                loops.add_deviations(
                    xs, r * channels + c, channels, count, part, factors, c, scratch, at + c, at + line + c
                )
    if phase & FINISH:
        loops.add_parts(scratch, -(-rows // height), line, c0, c1)
        _finish(x, scratch, factors, gamma, beta, running, mean, inv_std, line, c0, c1)
    if phase & APPLY and y.size > 0:
        floor = x.dtype.type(0.0 if relu else np.nan)
        at = r0 * channels + c0
        loops.normalize(xs, added, ys, at, channels, r1 - r0, c1 - c0, factors, c0, floor, streaming)


@kernel
def forward(
    x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, scratch, factors, mean, inv_std, y
):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (M, C, 1); the rest as in `rows_forward.forward`. Written: scratch, factors, mean, inv_std (float64), y.
    """
    x, residual, gamma, beta = borrowed(x), borrowed(residual), borrowed(gamma), borrowed(beta)
    scratch, factors, mean, inv_std, y = (
        borrowed(scratch),
        borrowed(factors),
        borrowed(mean),
        borrowed(inv_std),
        borrowed(y),
    )
    running = borrowed(running_mean), borrowed(running_var), momentum, eps
    cut = plan[0], plan[1], plan[2] > 0
    width, height = plan[0], plan[1]
    rows, channels, _ = x.shape
    parts = -(-rows // height)
    loops.sampled_shifts(flat(x), rows, channels, factors)
    for k in range(1 if parts == 1 else 3):
        phase = WHOLE if parts == 1 else 1 << k
        tasks = -(-channels // loops.FINISHED) if phase == FINISH else -(-channels // width) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), cut, x, residual, gamma, beta, running, relu, scratch, factors, mean, inv_std, y
            )
