"""Batch norm's backward pass over columns: (M, C, 1). See `cut`."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.kernels.batch_norm.channels_last.cut import BLOCK_ROWS, FINISHED, columns_of, cut_of, finished_by
from nbnorm.kernels.batch_norm.channels_last.sums import add_chunks, clear_sums, line_of, totals_of
from nbnorm.kernels.runs import APPLY, FINISH, SUM, WHOLE, Channel, Gated, Gradients, Runs
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import lanes_of

__all__ = ["backward", "sum_gradients"]


@device
def _finish(gated, rows, stats, working, gradients, c0, c1):
    """Gradients of gamma and beta of columns c0 to c1, and the factors of dx that follow."""
    mean, inv_std = stats
    sums, factors = working
    channels, each = mean.size, 1.0 / rows
    line = line_of(gated.x, channels)
    totals, products = sums[c0:c1], sums[line + c0 : line + c1]
    _mend(gated, rows, channels, factors, totals, products, c0)
    means, inv_stds, dgammas, dbetas = mean[c0:c1], inv_std[c0:c1], gradients.dgamma[c0:c1], gradients.dbeta[c0:c1]
    centers = loops.row_of(factors, loops.CENTER, channels, c0, c1)
    slopes = loops.row_of(factors, loops.SLOPE, channels, c0, c1)
    offsets = loops.row_of(factors, loops.OFFSET, channels, c0, c1)
    for j in range(c1 - c0):
        dbetas[j] = totals[j]
        dgammas[j], slope, offset = statistics.gradient_factors(
            totals[j], products[j], each, means[j], inv_stds[j], centers[j]
        )
        slopes[j], offsets[j] = -slope, offset


@device
def _mend(gated, rows, channels, factors, totals, products, c0):
    """Compute anew, in float64, the sums of the columns from c0 on that overflowed or in which a NaN came."""
    overflowed = 0
    for j in range(totals.size):
        overflowed += not -np.inf < totals[j] + products[j] < np.inf
    if overflowed > 0:
        for j in range(totals.size):
            c = c0 + j
            own = statistics.Factors(
                factors[loops.CENTER * channels + c],
                factors[loops.SCALE * channels + c],
                factors[loops.SHIFT * channels + c],
            )
            if not -np.inf < totals[j] + products[j] < np.inf:
                totals[j], products[j] = statistics.gradient_sums(gated, Channel(rows, channels, 1, c), own)


@device
def sum_gradients(gated, channels, columns, working):
    """Sums of some columns, of a chunk of the rows."""
    sums, factors = working
    lanes, line, block = lanes_of(gated.x), line_of(gated.x, channels), BLOCK_ROWS // 2  # there are two arrays
    clear_sums(gated.x, sums, line, columns)
    for r in range(columns.r0, columns.r1, block):
        count = block if r + block < columns.r1 else columns.r1 - r
        for c in range(columns.c0, columns.c1, lanes):
            runs = Runs(r * channels + c, channels, count, lanes if c + lanes <= columns.c1 else columns.c1 - c)
            loops.add_products(gated, runs, factors, c, totals_of(sums, line, columns.chunk, c))


@device
def backward_task(phase, task, cut, gated, shape, stats, working, gradients):
    sums, factors = working
    rows, channels, _ = shape
    columns = columns_of(task, cut, rows, channels)
    if phase & SUM:
        sum_gradients(gated, channels, columns, working)
    if phase & FINISH:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(gated.x, channels), -(-rows // cut.height), c0, c1)
        _finish(gated, rows, stats, working, gradients, c0, c1)
    if gradients.dx.size + gradients.dresidual.size > 0 and phase & APPLY:
        runs = Runs(columns.r0 * channels + columns.c0, channels, columns.r1 - columns.r0, columns.c1 - columns.c0)
        loops.differentiate(gated, gradients.dx, gradients.dresidual, runs, factors, columns.c0, cut.streaming)


@kernel
def backward(dy, x, y, stats, gamma, beta, relu, by_output, row, gradients):
    """Gradients of the forward pass: as `channels_first.backward`, for (M, C, 1)."""
    cut, shape = cut_of(row), x.shape
    rows, channels, _ = shape
    room, kept = np.empty(cut.slots), np.empty(loops.FACTORS * channels, x.dtype)
    working, stats = (borrowed(room), borrowed(kept)), (borrowed(stats[0]), borrowed(stats[1]))
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    chunks = -(-rows // cut.height)
    loops.store_factors(working[1], stats[0], stats[1], (borrowed(gamma), borrowed(beta)), 0, channels)
    for k in range(1 if chunks == 1 else 3):
        phase = WHOLE if chunks == 1 else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            backward_task(phase, np.intp(task), cut_of(row), gated, shape, stats, working, written)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
