"""Batch norm's backward pass over columns: (M, C, 1). See `columns`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.batch_norm.channels_first.cut import APPLY, FINISH, SUM, WHOLE
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import lanes_of


@device
def _finish(dy, x, y, rows, mean, inv_std, factors, floor, by_output, scratch, line, c0, c1, dgamma, dbeta):
    """Gradients of gamma and beta of columns c0 to c1, and the factors of dx that follow."""
    channels, each = mean.size, 1.0 / rows
    sums, products = scratch[c0:c1], scratch[line + c0 : line + c1]
    overflowed = 0
    for j in range(c1 - c0):
        overflowed += not -np.inf < sums[j] + products[j] < np.inf
    if overflowed > 0:
        for j in range(c1 - c0):
            c = c0 + j
            own = (factors[c], factors[channels + c], factors[2 * channels + c])
            if not -np.inf < sums[j] + products[j] < np.inf:
                sums[j], products[j] = statistics.gradient_sums(dy, x, y, rows, channels, 1, c, own, floor, by_output)
    means, inv_stds, dgammas, dbetas = mean[c0:c1], inv_std[c0:c1], dgamma[c0:c1], dbeta[c0:c1]
    centers = factors[c0:c1]
    slopes, offsets = (
        factors[3 * channels + c0 : 3 * channels + c1],
        factors[4 * channels + c0 : 4 * channels + c1],
    )
    for j in range(c1 - c0):
        dbetas[j] = sums[j]
        dgammas[j], slope, offset = statistics.gradient_factors(
            sums[j], products[j], each, means[j], inv_stds[j], centers[j]
        )
        slopes[j], offsets[j] = -slope, offset


@device
def _task(phase, task, cut, dy, x, y, mean, inv_std, relu, by_output, scratch, factors, dx, dgamma, dbeta, dresidual):
    width, height, streaming = cut
    rows, channels, _ = x.shape
    dys, xs, ys, dxs, kept = flat(dy), flat(x), flat(y), flat(dx), flat(dresidual)
    lanes, block = lanes_of(x), loops.BLOCK_ROWS // 2
    line = loops.padded(x, channels)
    floor = x.dtype.type(0.0 if relu else np.nan)
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
                loops.add_products(
                    dys, xs, ys, r * channels + c, channels, count, part, factors, c, floor, by_output,
                    scratch, at + c, at + line + c,
                )  # fmt: skip
    if phase & FINISH:
        loops.add_parts(scratch, -(-rows // height), line, c0, c1)
        _finish(dys, xs, ys, rows, mean, inv_std, factors, floor, by_output, scratch, line, c0, c1, dgamma, dbeta)
    if dx.size + dresidual.size > 0 and phase & APPLY:
        at = r0 * channels + c0
        loops.differentiate(
            dys, xs, ys, dxs, kept, at, channels, r1 - r0, c1 - c0, factors, c0, floor, by_output, streaming
        )


@kernel
def backward(
    dy, x, y, mean, inv_std, gamma, beta, relu, by_output, plan, scratch, factors, dx, dgamma, dbeta, dresidual
):
    """Gradients of the forward pass: as `rows_backward.backward`, for (M, C, 1). Written: factors, too."""
    dy, x, y, mean, inv_std = borrowed(dy), borrowed(x), borrowed(y), borrowed(mean), borrowed(inv_std)
    gamma, beta, scratch, factors = borrowed(gamma), borrowed(beta), borrowed(scratch), borrowed(factors)
    dx, dgamma, dbeta, dresidual = borrowed(dx), borrowed(dgamma), borrowed(dbeta), borrowed(dresidual)
    cut = plan[0], plan[1], plan[2] > 0
    width, height = plan[0], plan[1]
    rows, channels, _ = x.shape
    parts = -(-rows // height)
    loops.store_factors(factors, mean, inv_std, gamma, beta, 0, channels)
    for k in range(1 if parts == 1 else 3):
        phase = WHOLE if parts == 1 else 1 << k
        tasks = -(-channels // loops.FINISHED) if phase == FINISH else -(-channels // width) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), cut, dy, x, y, mean, inv_std, relu, by_output, scratch, factors,
                dx, dgamma, dbeta, dresidual,
            )  # fmt: skip
