"""Batch norm's training forward pass over rows: (N, C, L) with L > 1. See `cut`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import loops, statistics
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of, range_of
from nbnorm.kernels.batch_norm.channels_first.slots import (
    add_lanes,
    clear_sums,
    keep_factors,
    kept_of,
    sum_of_chunks,
    table_of,
    totals_of,
)
from nbnorm.kernels.runs import APPLY, SAMPLED, SUM, WHOLE, Channel, Parameters, Runs, Stores
from nbnorm.kernels.sums import add_deviations
from nbnorm.simd.memory import borrowed, flat, reinterpreted


@device
def _finish(x, c, chunks, parameters, slots, stats):
    """The statistics of channel c from the sums of its chunks, and the factors that follow."""
    images, channels, length = x.shape
    gamma, beta, running_mean, running_var, momentum, eps, rmax, _ = parameters
    mean, inv_std = stats
    total, squares = sum_of_chunks(x, slots, c, chunks)
    kept, k = reinterpreted(slots, x), kept_of(x, c * chunks)
    shift = kept[k + SAMPLED]
    mean[c], var = statistics.statistics(flat(x), Channel(images, channels, length, c), shift, total, squares)
    inv_std[c] = 1.0 / math.sqrt(var + eps)
    own, shift = statistics.renormalized(c, mean[c], inv_std[c], parameters) if rmax > 0.0 else (gamma[c], beta[c])
    statistics.move_running(mean[c], var, images * length, c, running_mean, running_var, momentum)
    keep_factors(kept, k, statistics.factors_by(mean[c], inv_std[c], own, shift, gamma))


@device
def add_sums(x, cut, chunk, where, first, last, slots):
    """Sums of a chunk of each of the channels from `first` up to `last`."""
    images, channels, length = x.shape
    xs, kept = flat(x), reinterpreted(slots, x)
    for c in range(first, last):
        own = c * cut.chunks + chunk
        clear_sums(totals_of(x, slots, own))
        kept[kept_of(x, own) + SAMPLED] = statistics.sampled_shift(xs, Channel(images, channels, length, c))
    for n in range(where.image, where.image_end, cut.block_rows):
        count = cut.block_rows if n + cut.block_rows < where.image_end else where.image_end - n
        for c in range(first, last):
            own = c * cut.chunks + chunk
            shift, totals = kept[kept_of(x, own) + SAMPLED], totals_of(x, slots, own)
            for i in range(where.element, where.element_end, cut.block_length):
                width = cut.block_length if i + cut.block_length < where.element_end else where.element_end - i
                runs = Runs((n * channels + c) * length + i, channels * length, count, width)
                add_deviations(xs, runs, shift, totals)
    for c in range(first, last):
        add_lanes(totals_of(x, slots, c * cut.chunks + chunk))


@device
def forward_task(phase, task, cut, x, residual, parameters, relu, slots, stats, y):
    images, channels, length = x.shape
    chunk, first = task % cut.chunks, task // cut.chunks * cut.group
    last = first + cut.group if first + cut.group < channels else channels
    where = range_of(chunk, cut.chunks, images, length)
    if phase & SUM:
        add_sums(x, cut, chunk, where, first, last, slots)
    if phase == WHOLE:
        for c in range(first, last):
            _finish(x, c, cut.chunks, parameters, slots, stats)
    if phase & APPLY and y.size > 0:
        runs = Runs(
            (where.image * channels + first) * length + where.element, channels * length,
            where.image_end - where.image, where.element_end - where.element,
        )  # fmt: skip
        floor = x.dtype.type(0.0 if relu else np.nan)
        table = table_of(x, slots, first, cut.chunks, 0)
        loops.normalize(
            flat(x), flat(residual), flat(y), runs, last - first, table, floor, Stores(cut.ahead, cut.streaming)
        )


# Eleven arguments: a call pays 50 to 100 ns for each array, and more for a tuple of arrays than for its elements.
@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, rule, relu, row, stats, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move.

    x, y: (N, C, L), y empty where the statistics are all that is wanted; residual like x, or empty; running_mean,
    running_var: (C,) or empty; rule = (momentum, eps, rmax, dmax), see `Parameters`; row: see `cut_of`. Written:
    stats = (mean, inv_std), float64 (C,), and y.
    """
    cut, channels = cut_of(row), x.shape[1]
    room = np.empty(cut.slots)
    x, residual, y, slots = borrowed(x), borrowed(residual), borrowed(y), borrowed(room)
    mean, inv_std = borrowed(stats[0]), borrowed(stats[1])
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
    tasks = -(-channels // cut.group) * cut.chunks
    for k in range(1 if cut.chunks == 1 else 2):
        phase = WHOLE if cut.chunks == 1 else SUM if k == 0 else APPLY
        for c in range(channels if phase == APPLY else 0):
            _finish(x, c, cut.chunks, parameters, slots, (mean, inv_std))
        for task in prange(tasks):
            forward_task(phase, np.intp(task), cut_of(row), x, residual, parameters, relu, slots, (mean, inv_std), y)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use
