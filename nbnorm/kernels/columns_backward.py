"""Batch norm's backward pass over columns: (M, C, 1). See `columns`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, columns
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE
from nbnorm.simd.vectors import flat, lanes_of


@device
def _sums(dy, x, y, channels, r0, r1, c0, c1, factors, floor, by_output, dresidual, partial, at):
    """partial[at + c] and partial[at + channels + c] = the sums of g and of g (x - center) of rows r0 to r1"""
    lanes = lanes_of(x)
    width = -(-(c1 - c0) // lanes) * lanes
    totals = np.zeros(2 * width)
    for r in range(r0, r1, columns.BLOCK_ROWS):
        count = columns.BLOCK_ROWS if r + columns.BLOCK_ROWS < r1 else r1 - r
        for t in range(0, c1 - c0, lanes):
            part = lanes if c0 + t + lanes <= c1 else c1 - c0 - t
            columns.add_products(
                dy, x, y, r * channels + c0 + t, channels, count, part, factors, c0 + t, floor, by_output, dresidual,
                totals, t, width + t,
            )  # fmt: skip
    for c in range(c0, c1):
        partial[at + c] = totals[c - c0]
        partial[at + channels + c] = totals[width + c - c0]


@device
def _task(
    phase, task, plan, shape, dy, x, y, mean, inv_std, floor, by_output, partial, factors, dx, dgamma, dbeta, dresidual
):
    width, height, streaming = plan
    rows, channels, _ = shape
    parts = -(-rows // height)
    across = -(-channels // width)
    c0 = task if phase == FINISH else task % across * width
    c1 = min(c0 + (1 if phase == FINISH else width), channels)
    r0 = task // across * height
    r1 = min(r0 + height, rows)
    if phase & SUM:
        at = task // across * 2 * channels
        _sums(dy, x, y, channels, r0, r1, c0, c1, factors, floor, by_output, dresidual, partial, at)
    if phase & FINISH:
        for c in range(c0, c1):
            total = product = 0.0
            for p in range(parts):
                total += partial[2 * p * channels + c]
                product += partial[(2 * p + 1) * channels + c]
            own = (factors[c], factors[channels + c], factors[2 * channels + c])
            total, product = channel.gradient_sums(
                dy, x, y, rows, channels, 1, c, own, floor, by_output, total, product
            )
            dbeta[c] = total
            dgamma[c], slope, offset = channel.gradient_factors(total, product, rows, mean[c], inv_std[c], own[0])
            factors[3 * channels + c] = slope
            factors[4 * channels + c] = offset
    if dx.size > 0 and phase & APPLY:
        block = columns.BLOCK_ROWS
        for r in range(r0 + (r1 - r0 - 1) // block * block, r0 - 1, -block):
            count = block if r + block < r1 else r1 - r
            for c in range(c0, c1, lanes_of(x)):
                part = lanes_of(x) if c + lanes_of(x) <= c1 else c1 - c
                columns.differentiate(
                    dy, x, y, dx, r * channels + c, channels, count, part, factors, c, floor, by_output, streaming
                )


@kernel
def backward(dy, x, y, mean, inv_std, gamma, beta, relu, by_output, plan, dx, dgamma, dbeta, dresidual):
    """Gradients of the forward pass: as `rows_backward.backward`, for (M, C, 1)."""
    width, height, _ = plan
    shape = x.shape
    rows, channels, _ = shape
    parts = -(-rows // height)
    floor = x.dtype.type(0.0 if relu else np.nan)
    factors = np.empty(columns.FACTORS * channels, x.dtype)
    partial = np.empty(parts * 2 * channels)
    dys, xs, ys, dxs, added = flat(dy), flat(x), flat(y), flat(dx), flat(dresidual)
    for c in range(channels):
        factors[c], factors[channels + c], factors[2 * channels + c] = channel.factors(mean, inv_std, gamma, beta, c)
    phases = 1 if parts == 1 and width < channels else 3
    for k in range(phases):
        phase = WHOLE if phases == 1 else 1 << k
        tasks = channels if phase == FINISH else -(-channels // width) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), plan, shape, dys, xs, ys, mean, inv_std, floor, by_output, partial, factors,
                dxs, dgamma, dbeta, added,
            )  # fmt: skip
