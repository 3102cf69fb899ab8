"""Batch norm's backward pass over rows: (N, C, L) with L > 1. See `rows`."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.kernels import channel, spans
from nbnorm.kernels.rows import APPLY, FINISH, SUM, WHOLE, bounds, sum_lanes
from nbnorm.simd.vectors import flat, lanes_of


@device
def _sums(dy, x, y, mean, inv_std, gamma, beta, floor, by_output, dresidual, shape, plan, first, last, box, totals):
    """Fill totals (two vectors for each channel from `first` on) with the sums of g and g (x - center) over a box."""
    _, channels, length = shape
    _, _, rows, step, _ = plan
    n0, n1, i0, i1 = box
    lanes = lanes_of(x)
    for t in range(totals.size):
        totals[t] = 0.0
    for n in range(n0, n1, rows):
        count = rows if n + rows < n1 else n1 - n
        for c in range(first, last):
            factors = channel.factors(mean, inv_std, gamma, beta, c)
            t = (c - first) * 2 * lanes
            for i in range(i0, i1, step):
                at = (n * channels + c) * length + i
                width = step if i + step < i1 else i1 - i
                stride = channels * length
                if by_output:
                    spans.add_products_by_output(
                        dy, x, y, at, stride, count, width, factors[0], floor, dresidual, totals, t
                    )
                else:
                    spans.add_products(dy, x, at, stride, count, width, factors, floor, totals, t)


@device
def _task(
    phase, task, plan, shape, dy, x, y, mean, inv_std, gamma, beta, floor, by_output, partial, slopes,
    dx, dgamma, dbeta, dresidual,
):  # fmt: skip
    group, parts, rows, _, streaming = plan
    images, channels, length = shape
    first = task if phase == FINISH else task // parts * group
    last = first + group if first + group < channels else channels
    box = bounds(task % parts, parts, images, length)
    n0, n1, i0, i1 = box
    lanes = lanes_of(x)
    if phase & SUM:
        totals = np.empty(group * 2 * lanes)
        _sums(dy, x, y, mean, inv_std, gamma, beta, floor, by_output, dresidual, shape, plan, first, last, box, totals)
        for c in range(first, last):
            p = task if phase != WHOLE else c
            partial[p, 0], partial[p, 1] = sum_lanes(totals, (c - first) * 2 * lanes, lanes)
    if phase & FINISH:
        for c in range(first, last):
            total = product = 0.0
            for p in range(c * parts, (c + 1) * parts):
                total += partial[p, 0]
                product += partial[p, 1]
            factors = channel.factors(mean, inv_std, gamma, beta, c)
            total, product = channel.gradient_sums(
                dy, x, y, images, channels, length, c, factors, floor, by_output, total, product
            )
            dbeta[c] = total
            dgamma[c], slopes[c, 0], slopes[c, 1] = channel.gradient_factors(
                total, product, images * length, mean[c], inv_std[c], factors[0]
            )
    if dx.size > 0 and phase & APPLY:
        for n in range(n0 + (n1 - n0 - 1) // rows * rows, n0 - 1, -rows):
            count = rows if n + rows < n1 else n1 - n
            for c in range(first, last):
                factors = channel.factors(mean, inv_std, gamma, beta, c)
                at = (n * channels + c) * length + i0
                spans.differentiate(
                    dy, x, y, dx, at, channels * length, count, i1 - i0, factors, floor, slopes[c, 0], slopes[c, 1],
                    by_output, streaming,
                )  # fmt: skip


@kernel
def backward(dy, x, y, mean, inv_std, gamma, beta, relu, by_output, plan, dx, dgamma, dbeta, dresidual):
    """Gradients of the forward pass. With g = dy where the output was not cut off by the ReLU, else 0:

    dbeta = sum g, dgamma = sum g x_hat, dresidual = g, dx = gamma inv_std (g - dbeta / n - x_hat dgamma / n).
    Whether it was cut off is read from y (`by_output`) or computed anew from x. An empty dx or dresidual is not
    written.
    """
    group, parts, _, _, _ = plan
    shape = x.shape
    channels = shape[1]
    floor = x.dtype.type(0.0 if relu else np.nan)
    partial = np.empty((channels * parts, 2))
    slopes = np.empty((channels, 2), x.dtype)
    dys, xs, ys, dxs, added = flat(dy), flat(x), flat(y), flat(dx), flat(dresidual)
    phases = 1 if parts == 1 else 3
    for k in range(phases):
        phase = WHOLE if phases == 1 else 1 << k
        tasks = channels if phase == FINISH else -(-channels // group) * parts
        for task in prange(tasks):
            _task(
                phase, np.intp(task), plan, shape, dys, xs, ys, mean, inv_std, gamma, beta, floor, by_output,
                partial, slopes, dxs, dgamma, dbeta, added,
            )  # fmt: skip
