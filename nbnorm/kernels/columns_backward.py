"""Batch norm's backward pass over columns: (M, C, 1). See `columns`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, columns
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE
from nbnorm.simd.vectors import flat, lanes_of


@device
def _task(phase, task, plan, dy, x, y, mean, inv_std, relu, by_output, scratch, factors, dx, dgamma, dbeta, dresidual):
    width, height, streaming = plan
    rows, channels, _ = x.shape
    dys, xs, ys, dxs, kept = flat(dy), flat(x), flat(y), flat(dx), flat(dresidual)
    lanes, block = lanes_of(x), columns.BLOCK_ROWS
    line, each = columns.padded(x, channels), 1.0 / rows
    floor = x.dtype.type(0.0 if relu else np.nan)
    across = 1 if phase == FINISH else -(-channels // width)
    c0, r0 = task % across * width, task // across * height
    c1 = c0 + width if c0 + width < channels else channels
    r1 = r0 + height if r0 + height < rows else rows
    if phase & SUM:
        at = task // across * 2 * line
        for t in range(c0, -(-c1 // lanes) * lanes):
            scratch[at + t] = scratch[at + line + t] = 0.0
        for r in range(r0, r1, block):
            count = block if r + block < r1 else r1 - r
            for c in range(c0, c1, lanes):
                part = lanes if c + lanes <= c1 else c1 - c
                columns.add_products(
                    dys, xs, ys, r * channels + c, channels, count, part, factors, c, floor, by_output, kept,
                    scratch, at + c, at + line + c,
                )  # fmt: skip
    if phase & FINISH:
        columns.add_parts(scratch, -(-rows // height), line, c0, c1)
        for c in range(c0, c1):
            total, product = scratch[c], scratch[line + c]
            own = (factors[c], factors[channels + c], factors[2 * channels + c])
            if not -np.inf < total + product < np.inf:
                total, product = channel.gradient_sums(dys, xs, ys, rows, channels, 1, c, own, floor, by_output)
            dbeta[c] = total
            dgamma[c], slope, offset = channel.gradient_factors(total, product, each, mean[c], inv_std[c], own[0])
            factors[3 * channels + c], factors[4 * channels + c] = slope, offset
    if dx.size > 0 and phase & APPLY:
        for r in range(r0 + (r1 - r0 - 1) // block * block, r0 - 1, -block):
            count = block if r + block < r1 else r1 - r
            for c in range(c0, c1, lanes):
                part = lanes if c + lanes <= c1 else c1 - c
                columns.differentiate(
                    dys, xs, ys, dxs, r * channels + c, channels, count, part, factors, c, floor, by_output, streaming
                )


@kernel
def backward(
    dy, x, y, mean, inv_std, gamma, beta, relu, by_output, plan, scratch, factors, dx, dgamma, dbeta, dresidual
):
    """Gradients of the forward pass: as `rows_backward.backward`, for (M, C, 1). Written: factors, too."""
    width, height, _ = plan
    rows, channels, _ = x.shape
    parts = -(-rows // height)
    columns.store_factors(factors, mean, inv_std, gamma, beta, 0, channels)
    for k in range(1 if parts == 1 else 3):
        phase = WHOLE if parts == 1 else 1 << k
        tasks = 1 if phase == FINISH else -(-channels // width) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), plan, dy, x, y, mean, inv_std, relu, by_output, scratch, factors,
                dx, dgamma, dbeta, dresidual,
            )  # fmt: skip
