"""Batch norm of the valid values of columns: (M, C, 1), whose rows are valid or not. Cut as `channels_last.cut` says.

What is cut into chunks are the valid rows, by their numbers; a chunk normalizes the rows between its first and the next
chunk's first one, and overwrites those that are not valid with zeros.
"""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.kernels.batch_norm.channels_last.cut import BLOCK_ROWS, FINISHED, columns_of, cut_of, finished_by
from nbnorm.kernels.batch_norm.channels_last.sums import add_chunks, clear_sums, line_of, totals_of
from nbnorm.kernels.batch_norm.masked.arithmetic import shift_of_valid, valid_gradient_sums, valid_statistics
from nbnorm.kernels.batch_norm.masked.valid import Valid, sample_valid
from nbnorm.kernels.runs import APPLY, FINISH, SUM, WHOLE, Channel, Gated, Gradients, Runs
from nbnorm.simd.masks import load_part
from nbnorm.simd.memory import borrowed, flat, item
from nbnorm.simd.vectors import add, fma, gate, lanes_of, multiply, splat, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

__all__ = ["backward", "forward"]


@device
def _deviation(x, rows, j, run, k):
    channels, c, width = run
    return subtract(load_part(x, item(rows, j) * channels + c, width, k), k)


@device
def _add_deviations(x, rows, runs, factors, c, totals):
    """`loops.add_deviations` over rows[runs.first:], by their numbers."""
    first, channels, count, width = runs
    k = load_part(factors, loops.SAMPLED * channels + c, width, splat(x.dtype.type(0)))
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    body, run = first + count // 4 * 4, (channels, c, width)
    for j in range(first, body, 4):
        d0, d1 = _deviation(x, rows, j, run, k), _deviation(x, rows, j + 1, run, k)
        d2, d3 = _deviation(x, rows, j + 2, run, k), _deviation(x, rows, j + 3, run, k)
        a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
        b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
    for j in range(body, first + count):
        d0 = _deviation(x, rows, j, run, k)
        a0, b0 = add(a0, d0), fma(d0, d0, b0)
    add_wide(totals.values, totals.first, add(add(a0, a1), add(a2, a3)))
    add_wide(totals.values, totals.second, add(add(b0, b1), add(b2, b3)))


@device
def _terms(gated, i, width, kept, low):
    """g and x - center of at most a vector."""
    zero = splat(gated.x.dtype.type(0))
    d = subtract(load_part(gated.x, i, width, kept.center), kept.center)
    v = load_part(gated.y, i, width, zero) if gated.by_output else fma(d, kept.scale, kept.shift)
    return gate(v, low, load_part(gated.dy, i, width, zero)), d


@device
def _add_products(gated, rows, runs, factors, c, totals):
    """`loops.add_products` over rows[runs.first:], by their numbers."""
    first, channels, count, width = runs
    kept, low = loops.kept_columns(factors, channels, c, width), splat(gated.floor)
    sums = products = no_sum(gated.x)
    body = first + count // 4 * 4
    for j in range(first, body, 4):
        g0, d0 = _terms(gated, item(rows, j) * channels + c, width, kept, low)
        g1, d1 = _terms(gated, item(rows, j + 1) * channels + c, width, kept, low)
        g2, d2 = _terms(gated, item(rows, j + 2) * channels + c, width, kept, low)
        g3, d3 = _terms(gated, item(rows, j + 3) * channels + c, width, kept, low)
        sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
        products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
    for j in range(body, first + count):
        g0, d0 = _terms(gated, item(rows, j) * channels + c, width, kept, low)
        sums, products = widen_add(sums, g0), widen_add(products, multiply(g0, d0))
    add_wide(totals.values, totals.first, sums)
    add_wide(totals.values, totals.second, products)


@device
def _rows_of(valid, columns, size):
    """The rows from and up to which a chunk of the valid ones normalizes."""
    first = 0 if columns.r0 == 0 else valid.rows[columns.r0]
    return first, size if columns.r1 >= valid.number else valid.rows[columns.r1]


@device
def _clear(values, valid, first, last, columns, channels):
    for row in range(first, last):
        if valid.marks[row] == 0:
            for i in range(row * channels + columns.c0, row * channels + columns.c1):
                values[i] = 0


@device
def _finish(x, valid, working, parameters, stats, c0, c1):
    """Statistics and factors of columns c0 to c1, from the sums of the first chunk."""
    sums, factors, _ = working
    affine, running, rule, _ = parameters
    mean, inv_std = stats
    momentum, eps = rule
    size, channels, _ = x.shape
    line = line_of(x, channels)
    for c in range(c0, c1):
        own = Channel(size, channels, 1, c)
        shift = factors[loops.SAMPLED * channels + c]
        mean[c], var = valid_statistics(flat(x), own, valid, shift, sums[c], sums[line + c])
        inv_std[c] = 1.0 / math.sqrt(var + eps)
        statistics.move_running(mean[c], var, valid.number, c, running[0], running[1], momentum)
    loops.store_factors(factors, mean, inv_std, affine, c0, c1)


@device
def _sum(x, valid, columns, working):
    sums, factors, _ = working
    channels, lanes, line = x.shape[1], lanes_of(x), line_of(x, x.shape[1])
    clear_sums(x, sums, line, columns)
    for r in range(columns.r0, columns.r1, BLOCK_ROWS):
        count = BLOCK_ROWS if r + BLOCK_ROWS < columns.r1 else columns.r1 - r
        for c in range(columns.c0, columns.c1, lanes):
            runs = Runs(r, channels, count, lanes if c + lanes <= columns.c1 else columns.c1 - c)
            _add_deviations(flat(x), valid.rows, runs, factors, c, totals_of(sums, line, columns.chunk, c))


@device
def _forward_task(phase, task, cut, x, residual, known, parameters, working, stats, y):
    sums, factors, _ = working
    valid = Valid(known[0], known[1], known[2])
    size, channels, _ = x.shape
    columns = columns_of(task, cut, valid.number, channels)
    if phase & SUM:
        _sum(x, valid, columns, working)
    if phase & FINISH:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(x, channels), -(-valid.number // cut.height), c0, c1)
        _finish(x, valid, working, parameters, stats, c0, c1)
    if phase & APPLY and y.size > 0:
        floor = x.dtype.type(0.0 if parameters[3] else np.nan)
        first, last = _rows_of(valid, columns, size)
        runs = Runs(first * channels + columns.c0, channels, last - first, columns.c1 - columns.c0)
        loops.normalize(flat(x), flat(residual), flat(y), runs, factors, columns.c0, floor, cut.streaming)
        _clear(flat(y), valid, first, last, columns, channels)


@kernel
def forward(x, residual, known, affine, running, rule, relu, row, stats, y):
    """As `rows.forward`, for (M, C, 1); `row` cuts as many rows as are valid."""
    cut = cut_of(row)
    channels, count = x.shape[1], known[2]
    room, kept = np.empty(cut.slots), np.empty(loops.FACTORS * channels, x.dtype)
    offsets = np.empty(statistics.SAMPLES, np.int64)
    x, residual, y = borrowed(x), borrowed(residual), borrowed(y)
    working = borrowed(room), borrowed(kept), borrowed(offsets)
    stats = borrowed(stats[0]), borrowed(stats[1])
    known = borrowed(known[0]), borrowed(known[1]), known[2]
    affine = borrowed(affine[0]), borrowed(affine[1])
    running = borrowed(running[0]), borrowed(running[1])
    sample_valid(Valid(known[0], known[1], known[2]), x.shape, working[2])
    for c in range(channels):
        working[1][loops.SAMPLED * channels + c] = shift_of_valid(flat(x), working[2], c)
    chunks = -(-count // cut.height)
    for k in range(1 if chunks == 1 else 3):
        phase = WHOLE if chunks == 1 else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            _forward_task(
                phase, np.intp(task), cut_of(row), x, residual, known, (affine, running, rule, relu), working, stats, y
            )
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
    offsets[0] = 0


@device
def _finish_gradients(gated, size, valid, stats, working, gradients, c0, c1):
    mean, inv_std = stats
    sums, factors = working
    channels, line = mean.size, line_of(gated.x, mean.size)
    for c in range(c0, c1):
        own = statistics.Factors(
            factors[loops.CENTER * channels + c],
            factors[loops.SCALE * channels + c],
            factors[loops.SHIFT * channels + c],
        )
        total, product = sums[c], sums[line + c]
        if not -np.inf < total + product < np.inf:
            total, product = valid_gradient_sums(gated, Channel(size, channels, 1, c), valid, own)
        gradients.dbeta[c] = total
        gradients.dgamma[c], slope, offset = statistics.gradient_factors(
            total, product, 1.0 / valid.number, mean[c], inv_std[c], own.center
        )
        factors[loops.SLOPE * channels + c], factors[loops.OFFSET * channels + c] = -slope, offset


@device
def _sum_gradients(gated, channels, valid, columns, working):
    sums, factors = working
    lanes, line, block = lanes_of(gated.x), line_of(gated.x, channels), BLOCK_ROWS // 2  # there are two arrays
    clear_sums(gated.x, sums, line, columns)
    for r in range(columns.r0, columns.r1, block):
        count = block if r + block < columns.r1 else columns.r1 - r
        for c in range(columns.c0, columns.c1, lanes):
            runs = Runs(r, channels, count, lanes if c + lanes <= columns.c1 else columns.c1 - c)
            _add_products(gated, valid.rows, runs, factors, c, totals_of(sums, line, columns.chunk, c))


@device
def _backward_task(phase, task, cut, gated, shape, known, stats, working, gradients):
    sums, factors = working
    valid = Valid(known[0], known[1], known[2])
    size, channels, _ = shape
    columns = columns_of(task, cut, valid.number, channels)
    if phase & SUM:
        _sum_gradients(gated, channels, valid, columns, working)
    if phase & FINISH:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(gated.x, channels), -(-valid.number // cut.height), c0, c1)
        _finish_gradients(gated, size, valid, stats, working, gradients, c0, c1)
    if gradients.dx.size + gradients.dresidual.size > 0 and phase & APPLY:
        first, last = _rows_of(valid, columns, size)
        runs = Runs(first * channels + columns.c0, channels, last - first, columns.c1 - columns.c0)
        loops.differentiate(gated, gradients.dx, gradients.dresidual, runs, factors, columns.c0, cut.streaming)
        if gradients.dx.size > 0:
            _clear(gradients.dx, valid, first, last, columns, channels)
        if gradients.dresidual.size > 0:
            _clear(gradients.dresidual, valid, first, last, columns, channels)


@kernel
def backward(dy, x, y, known, stats, affine, relu, by_output, row, gradients):
    """As `rows.backward`, for (M, C, 1)."""
    cut, shape = cut_of(row), x.shape
    channels, count = shape[1], known[2]
    room, kept = np.empty(cut.slots), np.empty(loops.FACTORS * channels, x.dtype)
    working, stats = (borrowed(room), borrowed(kept)), (borrowed(stats[0]), borrowed(stats[1]))
    known = borrowed(known[0]), borrowed(known[1]), known[2]
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    loops.store_factors(working[1], stats[0], stats[1], (borrowed(affine[0]), borrowed(affine[1])), 0, channels)
    chunks = -(-count // cut.height)
    for k in range(1 if chunks == 1 else 3):
        phase = WHOLE if chunks == 1 else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            _backward_task(phase, np.intp(task), cut_of(row), gated, shape, known, stats, working, written)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
