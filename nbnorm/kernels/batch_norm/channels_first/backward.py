"""Batch norm's backward pass over rows: (N, C, L) with L > 1. See `rows`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops, statistics
from nbnorm.kernels.batch_norm.channels_first.cut import (
    APPLY,
    SUM,
    WHOLE,
    add_lanes,
    bounds,
    clear_sums,
    keep_factors,
    kept_factors,
    kept_of,
    kept_step,
    slot_of,
)
from nbnorm.kernels.loops import OFFSET, SLOPE
from nbnorm.simd.memory import borrowed, flat, reinterpreted
from nbnorm.simd.vectors import lanes_of


@device
def _finish(dy, x, y, c, parts, mean, inv_std, floor, by_output, scratch, dgamma, dbeta):
    """The gradients of channel c's gamma and beta from the sums of its parts, and the slope and offset of its dx."""
    images, channels, length = x.shape
    total = product = 0.0
    for p in range(c * parts, (c + 1) * parts):
        total += scratch[slot_of(x, p)]
        product += scratch[slot_of(x, p) + lanes_of(x)]
    table, k = reinterpreted(scratch, x), kept_of(x, c * parts)
    factors = kept_factors(table, k)
    if not -np.inf < total + product < np.inf:
        total, product = statistics.gradient_sums(
            flat(dy), flat(x), flat(y), images, channels, length, c, factors, floor, by_output
        )
    dbeta[c] = total
    dgamma[c], table[k + SLOPE], table[k + OFFSET] = statistics.gradient_factors(
        total, product, 1.0 / (images * length), mean[c], inv_std[c], factors[0]
    )


@device
def _task(
    phase, task, cut, dy, x, y, mean, inv_std, gamma, beta, relu, by_output, scratch, dx, dgamma, dbeta, dresidual
):
    group, parts, rows, step, ahead, streaming = cut
    images, channels, length = x.shape
    dys, xs, ys, dxs, kept = flat(dy), flat(x), flat(y), flat(dx), flat(dresidual)
    stride = channels * length
    floor = x.dtype.type(0.0 if relu else np.nan)
    first = task // parts * group
    last = first + group if first + group < channels else channels
    part, table = task % parts, reinterpreted(scratch, x)
    n0, n1, i0, i1 = bounds(part, parts, images, length)
    if phase & SUM:
        for c in range(first, last):
            p = c * parts + part
            clear_sums(x, scratch, slot_of(x, p))
            keep_factors(table, kept_of(x, p), statistics.factors(mean, inv_std, gamma, beta, c))
        for n in range(n0, n1, rows):
            count = rows if n + rows < n1 else n1 - n
            for c in range(first, last):
                p = c * parts + part
                factors = kept_factors(table, kept_of(x, p))
                for i in range(i0, i1, step):
                    at = (n * channels + c) * length + i
                    width = step if i + step < i1 else i1 - i
                    loops.add_products(
                        dys, xs, ys, kept, at, stride, count, width, factors, floor, by_output, scratch, slot_of(x, p)
                    )
        for c in range(first, last):
            add_lanes(x, scratch, slot_of(x, c * parts + part))
    if phase == WHOLE:
        for c in range(first, last):
            _finish(dy, x, y, c, parts, mean, inv_std, floor, by_output, scratch, dgamma, dbeta)
    if dx.size > 0 and phase & APPLY:
        at = (n0 * channels + first) * length + i0
        gated = dresidual.size > 0  # already, in dresidual: one array less to read
        loops.differentiate(
            kept if gated else dys, xs, ys, dxs, at, stride, n1 - n0, i1 - i0, last - first,
            table, kept_of(x, first * parts), kept_step(x, parts), x.dtype.type(np.nan) if gated else floor,
            by_output and not gated, ahead, streaming,
        )  # fmt: skip


@kernel
def backward(dy, x, y, mean, inv_std, gamma, beta, relu, by_output, plan, scratch, dx, dgamma, dbeta, dresidual):
    """Gradients of the forward pass. With g = dy where the output was not cut off by the ReLU, else 0:

    dbeta = sum g, dgamma = sum g x_hat, dresidual = g, dx = gamma inv_std (g - dbeta / n - x_hat dgamma / n).
    Whether it was cut off is read from y (`by_output`) or computed anew from x. An empty dx or dresidual is not
    written. Written: scratch, dx, dgamma, dbeta, dresidual.
    """
    dy, x, y, mean, inv_std = borrowed(dy), borrowed(x), borrowed(y), borrowed(mean), borrowed(inv_std)
    gamma, beta, scratch, dx = borrowed(gamma), borrowed(beta), borrowed(scratch), borrowed(dx)
    dgamma, dbeta, dresidual = borrowed(dgamma), borrowed(dbeta), borrowed(dresidual)
    cut = plan[0], plan[1], plan[2], plan[3], plan[4], plan[5] > 0
    group, parts = plan[0], plan[1]
    channels = x.shape[1]
    tasks = -(-channels // group) * parts
    floor = x.dtype.type(0.0 if relu else np.nan)
    for k in range(1 if parts == 1 else 2):
        phase = WHOLE if parts == 1 else SUM if k == 0 else APPLY
        for c in range(channels if phase == APPLY else 0):
            _finish(dy, x, y, c, parts, mean, inv_std, floor, by_output, scratch, dgamma, dbeta)
        for task in prange(tasks):
            _task(
                phase, np.intp(task), cut, dy, x, y, mean, inv_std, gamma, beta, relu, by_output, scratch,
                dx, dgamma, dbeta, dresidual,
            )  # fmt: skip
