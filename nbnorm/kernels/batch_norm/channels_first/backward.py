"""Batch norm's backward pass over rows: (N, C, L) with L > 1. See `cut`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops, statistics
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of, range_of
from nbnorm.kernels.batch_norm.channels_first.slots import (
    add_lanes,
    clear_sums,
    keep_factors,
    kept_factors,
    kept_of,
    sum_of_chunks,
    table_of,
    totals_of,
)
from nbnorm.kernels.runs import APPLY, OFFSET, SLOPE, SUM, WHOLE, Channel, Gated, Gradients, Runs, Stores
from nbnorm.kernels.sums import add_products
from nbnorm.simd.memory import borrowed, flat, reinterpreted

__all__ = ["backward", "sum_gradients"]


@device
def _finish(gated, shape, c, chunks, stats, slots, gradients):
    """The gradients of channel c's gamma and beta from the sums of its chunks, and the slope and offset of its dx."""
    images, channels, length = shape
    mean, inv_std = stats
    dgamma, dbeta = gradients.dgamma, gradients.dbeta
    total, product = sum_of_chunks(gated.x, slots, c, chunks)
    kept, k = reinterpreted(slots, gated.x), kept_of(gated.x, c * chunks)
    factors = kept_factors(kept, k)
    if not -np.inf < total + product < np.inf:
        total, product = statistics.gradient_sums(gated, Channel(images, channels, length, c), factors)
    dbeta[c] = total
    dgamma[c], kept[k + SLOPE], kept[k + OFFSET] = statistics.gradient_factors(
        total, product, 1.0 / (images * length), mean[c], inv_std[c], factors.center
    )


@device
def sum_gradients(gated, shape, cut, chunk, where, first, last, slots, dresidual):
    """Sums of a chunk of each of the channels from `first` up to `last`, whose factors are kept there already."""
    _, channels, length = shape
    x = gated.x
    kept = reinterpreted(slots, x)
    for n in range(where.image, where.image_end, cut.block_rows):
        count = cut.block_rows if n + cut.block_rows < where.image_end else where.image_end - n
        for c in range(first, last):
            own = c * cut.chunks + chunk
            factors, totals = kept_factors(kept, kept_of(x, own)), totals_of(x, slots, own)
            for i in range(where.element, where.element_end, cut.block_length):
                width = cut.block_length if i + cut.block_length < where.element_end else where.element_end - i
                runs = Runs((n * channels + c) * length + i, channels * length, count, width)
                add_products(gated, dresidual, runs, factors, totals)
    for c in range(first, last):
        add_lanes(totals_of(x, slots, c * cut.chunks + chunk))


@device
def _differentiate(gated, shape, cut, where, first, last, slots, gradients):
    """dx of a chunk of each of these channels."""
    _, channels, length = shape
    x = gated.x
    runs = Runs(
        (where.image * channels + first) * length + where.element, channels * length,
        where.image_end - where.image, where.element_end - where.element,
    )  # fmt: skip
    done = gradients.dresidual.size > 0  # g is in dresidual already: one array less to read
    given = Gated(
        gradients.dresidual if done else gated.dy, x, gated.y,
        x.dtype.type(np.nan) if done else gated.floor, gated.by_output and not done,
    )  # fmt: skip
    table = table_of(x, slots, first, cut.chunks, 0)
    loops.differentiate(given, gradients.dx, runs, last - first, table, Stores(cut.ahead, cut.streaming))


@device
def backward_task(phase, task, cut, gated, shape, affine, stats, slots, gradients):
    gamma, beta = affine
    mean, inv_std = stats
    images, channels, length = shape
    x = gated.x
    chunk, first = task % cut.chunks, task // cut.chunks * cut.group
    last = first + cut.group if first + cut.group < channels else channels
    where = range_of(chunk, cut.chunks, images, length)
    if phase & SUM:
        for c in range(first, last):
            own = c * cut.chunks + chunk
            clear_sums(totals_of(x, slots, own))
            factors = statistics.factors(mean, inv_std, gamma, beta, c)
            keep_factors(reinterpreted(slots, x), kept_of(x, own), factors)
        sum_gradients(gated, shape, cut, chunk, where, first, last, slots, gradients.dresidual)
    if phase == WHOLE:
        for c in range(first, last):
            _finish(gated, shape, c, cut.chunks, stats, slots, gradients)
    if gradients.dx.size > 0 and phase & APPLY:
        _differentiate(gated, shape, cut, where, first, last, slots, gradients)


@kernel
def backward(dy, x, y, stats, gamma, beta, relu, by_output, row, gradients):
    """Gradients of the forward pass. With g = dy where the output was not cut off by the ReLU, else 0:

    dbeta = sum g, dgamma = sum g x_hat, dresidual = g, dx = gamma inv_std (g - dbeta / n - x_hat dgamma / n).
    Whether it was cut off is read from y (`by_output`) or computed anew from x. stats = (mean, inv_std); row: see
    `cut_of`. Written: gradients = (dx, dgamma, dbeta, dresidual), of which an empty dx or dresidual is not wanted.
    """
    cut, shape = cut_of(row), x.shape
    room = np.empty(cut.slots)
    slots, stats = borrowed(room), (borrowed(stats[0]), borrowed(stats[1]))
    affine = borrowed(gamma), borrowed(beta)
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    tasks = -(-shape[1] // cut.group) * cut.chunks
    for k in range(1 if cut.chunks == 1 else 2):
        phase = WHOLE if cut.chunks == 1 else SUM if k == 0 else APPLY
        for c in range(shape[1] if phase == APPLY else 0):
            _finish(gated, shape, c, cut.chunks, stats, slots, written)
        for task in prange(tasks):
            backward_task(phase, np.intp(task), cut_of(row), gated, shape, affine, stats, slots, written)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use
