"""Batch norm's training forward pass over columns: (M, C, 1). See `cut`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.kernels.batch_norm.channels_last.cut import BLOCK_ROWS, FINISHED, columns_of, cut_of, finished_by
from nbnorm.kernels.batch_norm.channels_last.sums import add_chunks, clear_sums, line_of, totals_of
from nbnorm.kernels.runs import APPLY, FINISH, SUM, WHOLE, Channel, Parameters, Runs
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import lanes_of

GAMMA, BETA = loops.SLOPE, loops.OFFSET  # where renormalization keeps its own: nobody needs these rows forward


@device
def _finish(x, sums, factors, parameters, stats, c0, c1):
    """Statistics and factors of columns c0 to c1, from the sums of the first chunk."""
    rows, channels, _ = x.shape
    mean, inv_std = stats
    each, unbiased, line = 1.0 / rows, rows / (rows - 1), line_of(x, channels)
    sampled = loops.row_of(factors, loops.SAMPLED, channels, c0, c1)
    totals, squares = sums[c0:c1], sums[line + c0 : line + c1]
    means, variances = mean[c0:c1], inv_std[c0:c1]
    distrusted = 0
    for j in range(c1 - c0):
        offset = totals[j] * each
        var = squares[j] * each - offset * offset
        means[j] = sampled[j] + offset
        variances[j] = var
        distrusted += not statistics.is_trusted(x, offset, var)
    if distrusted > 0:
        for j in range(c1 - c0):
            means[j], variances[j] = statistics.statistics(
                flat(x), Channel(rows, channels, 1, c0 + j), sampled[j], totals[j], squares[j]
            )
    if parameters.rmax > 0.0:
        _renormalize(parameters, means, variances, factors, channels, c0, c1)
    _move_running(parameters, means, variances, unbiased, c0, c1)
    for j in range(c1 - c0):
        variances[j] = 1.0 / math.sqrt(variances[j] + parameters.eps)
    if parameters.rmax > 0.0:
        own = loops.row_of(factors, GAMMA, channels, 0, channels), loops.row_of(factors, BETA, channels, 0, channels)
        loops.store_factors(factors, mean, inv_std, own, c0, c1)
    else:
        loops.store_factors(factors, mean, inv_std, (parameters.gamma, parameters.beta), c0, c1)


@device
def _renormalize(parameters, means, variances, factors, channels, c0, c1):
    """Keep gamma and beta of the batch norm that does what renormalization does to columns c0 to c1."""
    gammas = loops.row_of(factors, GAMMA, channels, c0, c1)
    betas = loops.row_of(factors, BETA, channels, c0, c1)
    for j in range(c1 - c0):
        inv = 1.0 / math.sqrt(variances[j] + parameters.eps)
        gammas[j], betas[j] = statistics.renormalized(c0 + j, means[j], inv, parameters)


@device
def _move_running(parameters, means, variances, unbiased, c0, c1):
    """Move the running statistics of columns c0 to c1, as `statistics.move_running` does."""
    momentum = parameters.momentum
    if parameters.running_mean.size > 0:
        moved = parameters.running_mean[c0:c1]
        for j in range(c1 - c0):
            moved[j] = (1.0 - momentum) * moved[j] + momentum * means[j]
    if parameters.running_var.size > 0:
        moved = parameters.running_var[c0:c1]
        for j in range(c1 - c0):
            moved[j] = (1.0 - momentum) * moved[j] + momentum * (variances[j] * unbiased)


@device
def add_sums(x, columns, sums, factors):
    """Sums of some columns, of a chunk of the rows."""
    channels, lanes, line = x.shape[1], lanes_of(x), line_of(x, x.shape[1])
    clear_sums(x, sums, line, columns)
    for r in range(columns.r0, columns.r1, BLOCK_ROWS):
        count = BLOCK_ROWS if r + BLOCK_ROWS < columns.r1 else columns.r1 - r
        for c in range(columns.c0, columns.c1, lanes):
            runs = Runs(r * channels + c, channels, count, lanes if c + lanes <= columns.c1 else columns.c1 - c)
            loops.add_deviations(flat(x), runs, factors, c, totals_of(sums, line, columns.chunk, c))


@device
def forward_task(phase, task, cut, x, residual, parameters, relu, working, stats, y):
    sums, factors = working
    rows, channels, _ = x.shape
    columns = columns_of(task, cut, rows, channels)
    if phase & SUM:
        add_sums(x, columns, sums, factors)
    if phase & FINISH:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(x, channels), -(-rows // cut.height), c0, c1)
        _finish(x, sums, factors, parameters, stats, c0, c1)
    if phase & APPLY and y.size > 0:
        floor = x.dtype.type(0.0 if relu else np.nan)
        runs = Runs(columns.r0 * channels + columns.c0, channels, columns.r1 - columns.r0, columns.c1 - columns.c0)
        loops.normalize(flat(x), flat(residual), flat(y), runs, factors, columns.c0, floor, cut.streaming)


# Eleven arguments: a call pays 50 to 100 ns for each array, and more for a tuple of arrays than for its elements.
@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, rule, relu, row, stats, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (M, C, 1); the rest as in `channels_first.forward`. Written: stats = (mean, inv_std), float64 (C,), and y.
    """
    cut = cut_of(row)
    rows, channels, _ = x.shape
    room, kept = np.empty(cut.slots), np.empty(loops.FACTORS * channels, x.dtype)
    x, residual, y = borrowed(x), borrowed(residual), borrowed(y)
    working, stats = (borrowed(room), borrowed(kept)), (borrowed(stats[0]), borrowed(stats[1]))
    parameters = Parameters(
        borrowed(gamma),
        borrowed(beta),
        borrowed(running_mean),
        borrowed(running_var),
        rule[0],
        rule[1],
        rule[2],
        rule[3],
    )
    chunks = -(-rows // cut.height)
    loops.sampled_shifts(flat(x), rows, channels, working[1])
    for k in range(1 if chunks == 1 else 3):
        phase = WHOLE if chunks == 1 else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            forward_task(phase, np.intp(task), cut_of(row), x, residual, parameters, relu, working, stats, y)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
