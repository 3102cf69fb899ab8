"""The training forward pass of batch renormalization: the plain kernels, with other factors between their passes."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops, statistics
from nbnorm.kernels.batch_norm.channels_first import forward as rows_forward
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of as rows_cut_of
from nbnorm.kernels.batch_norm.channels_first.cut import range_of
from nbnorm.kernels.batch_norm.channels_first.slots import keep_factors, kept_of, sum_of_chunks, table_of
from nbnorm.kernels.batch_norm.channels_last import forward as columns_forward
from nbnorm.kernels.batch_norm.channels_last import loops as column_loops
from nbnorm.kernels.batch_norm.channels_last.cut import FINISHED, columns_of, finished_by
from nbnorm.kernels.batch_norm.channels_last.cut import cut_of as columns_cut_of
from nbnorm.kernels.batch_norm.channels_last.sums import add_chunks, line_of
from nbnorm.kernels.runs import APPLY, FINISH, SAMPLED, SUM, WHOLE, Channel, Runs, Stores
from nbnorm.simd.memory import borrowed, flat, reinterpreted

__all__ = ["forward_columns", "forward_rows"]


@device
def _renormalize(c, mean, var, count, parameters, stats):
    """The statistics of channel c, r and d, the scale and shift that they make, and the moved running statistics."""
    affine, corrected, running, rule = parameters
    momentum, eps, rmax, dmax = rule
    means, inv_stds, r, d = stats
    means[c], inv_stds[c] = mean, 1.0 / math.sqrt(var + eps)
    inverse = 1.0 / math.sqrt(float(running[1][c]) + eps)
    r[c] = min(max(inverse / inv_stds[c], 1.0 / rmax), rmax)
    d[c] = min(max((mean - running[0][c]) * inverse, -dmax), dmax)
    corrected[0][c] = affine[0][c] * r[c]
    corrected[1][c] = affine[1][c] + affine[0][c] * d[c]
    statistics.move_running(mean, var, count, c, running[0], running[1], momentum)


@device
def _finish_row(x, c, chunks, parameters, slots, stats):
    images, channels, length = x.shape
    total, squares = sum_of_chunks(x, slots, c, chunks)
    kept, k = reinterpreted(slots, x), kept_of(x, c * chunks)
    own = Channel(images, channels, length, c)
    mean, var = statistics.statistics(flat(x), own, kept[k + SAMPLED], total, squares)
    _renormalize(c, mean, var, images * length, parameters, stats)
    corrected = parameters[1]
    keep_factors(kept, k, statistics.factors(stats[0], stats[1], corrected[0], corrected[1], c))


@device
def _task_of_rows(phase, task, cut, x, residual, parameters, relu, slots, stats, y):
    images, channels, length = x.shape
    chunk, first = task % cut.chunks, task // cut.chunks * cut.group
    last = first + cut.group if first + cut.group < channels else channels
    where = range_of(chunk, cut.chunks, images, length)
    if phase & SUM:
        rows_forward.add_sums(x, cut, chunk, where, first, last, slots)
    if phase == WHOLE:
        for c in range(first, last):
            _finish_row(x, c, cut.chunks, parameters, slots, stats)
    if phase & APPLY and y.size > 0:
        runs = Runs(
            (where.image * channels + first) * length + where.element, channels * length,
            where.image_end - where.image, where.element_end - where.element,
        )  # fmt: skip
        floor, stores = x.dtype.type(0.0 if relu else np.nan), Stores(cut.ahead, cut.streaming)
        table = table_of(x, slots, first, cut.chunks, 0)
        loops.normalize(flat(x), flat(residual), flat(y), runs, last - first, table, floor, stores)


@device
def _lent(affine, running, room, channels):
    """The arrays of the parameters, and room for the corrected ones, without counted references."""
    corrected = borrowed(room[:channels]), borrowed(room[channels:])
    return (borrowed(affine[0]), borrowed(affine[1])), corrected, (borrowed(running[0]), borrowed(running[1]))


@kernel
def forward_rows(x, residual, affine, running, rule, relu, row, stats, y):
    """`channels_first.forward` renormalized; rule = (momentum, eps, rmax, dmax), stats = (mean, inv_std, r, d)."""
    cut, channels = rows_cut_of(row), x.shape[1]
    room, corrected = np.empty(cut.slots), np.empty(2 * channels, x.dtype)
    x, residual, y, slots = borrowed(x), borrowed(residual), borrowed(y), borrowed(room)
    stats = borrowed(stats[0]), borrowed(stats[1]), borrowed(stats[2]), borrowed(stats[3])
    lent = _lent(affine, running, borrowed(corrected), channels)
    parameters = lent[0], lent[1], lent[2], rule
    tasks = -(-channels // cut.group) * cut.chunks
    for k in range(1 if cut.chunks == 1 else 2):
        phase = WHOLE if cut.chunks == 1 else SUM if k == 0 else APPLY
        for c in range(channels if phase == APPLY else 0):
            _finish_row(x, c, cut.chunks, parameters, slots, stats)
        for task in prange(tasks):
            _task_of_rows(phase, np.intp(task), rows_cut_of(row), x, residual, parameters, relu, slots, stats, y)
    room[0] = corrected[0] = 0.0  # a use of them after what was borrowed from them: they are freed after it


@device
def _finish_columns(x, sums, factors, parameters, stats, c0, c1):
    rows, channels, _ = x.shape
    line = line_of(x, channels)
    for c in range(c0, c1):
        shift = factors[column_loops.SAMPLED * channels + c]
        mean, var = statistics.statistics(flat(x), Channel(rows, channels, 1, c), shift, sums[c], sums[line + c])
        _renormalize(c, mean, var, rows, parameters, stats)
    column_loops.store_factors(factors, stats[0], stats[1], parameters[1], c0, c1)


@device
def _task_of_columns(phase, task, cut, x, residual, parameters, relu, working, stats, y):
    sums, factors = working
    rows, channels, _ = x.shape
    columns = columns_of(task, cut, rows, channels)
    if phase & SUM:
        columns_forward.add_sums(x, columns, sums, factors)
    if phase & FINISH:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(x, channels), -(-rows // cut.height), c0, c1)
        _finish_columns(x, sums, factors, parameters, stats, c0, c1)
    if phase & APPLY and y.size > 0:
        floor = x.dtype.type(0.0 if relu else np.nan)
        runs = Runs(columns.r0 * channels + columns.c0, channels, columns.r1 - columns.r0, columns.c1 - columns.c0)
        column_loops.normalize(flat(x), flat(residual), flat(y), runs, factors, columns.c0, floor, cut.streaming)


@kernel
def forward_columns(x, residual, affine, running, rule, relu, row, stats, y):
    """`channels_last.forward` renormalized: as `forward_rows`, for (M, C, 1)."""
    cut = columns_cut_of(row)
    rows, channels, _ = x.shape
    room, kept, corrected = (
        np.empty(cut.slots),
        np.empty(column_loops.FACTORS * channels, x.dtype),
        np.empty(2 * channels, x.dtype),
    )
    x, residual, y, working = borrowed(x), borrowed(residual), borrowed(y), (borrowed(room), borrowed(kept))
    stats = borrowed(stats[0]), borrowed(stats[1]), borrowed(stats[2]), borrowed(stats[3])
    lent = _lent(affine, running, borrowed(corrected), channels)
    parameters = lent[0], lent[1], lent[2], rule
    chunks = -(-rows // cut.height)
    column_loops.sampled_shifts(flat(x), rows, channels, working[1])
    for k in range(1 if chunks == 1 else 3):
        phase = WHOLE if chunks == 1 else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            _task_of_columns(
                phase, np.intp(task), columns_cut_of(row), x, residual, parameters, relu, working, stats, y
            )
    room[0] = kept[0] = corrected[0] = 0.0  # a use of them after what was borrowed from them
