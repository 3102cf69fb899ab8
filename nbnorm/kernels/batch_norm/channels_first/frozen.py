"""The backward pass of batch norm by given statistics over rows: (N, C, L) with L > 1. See `cut` and `fixed`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.batch_norm import fixed
from nbnorm.kernels.batch_norm.channels_first.backward import sum_gradients
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of, range_of
from nbnorm.kernels.batch_norm.channels_first.slots import (
    clear_sums,
    keep_factors,
    kept_factors,
    kept_of,
    sum_of_chunks,
    table_of,
    totals_of,
)
from nbnorm.kernels.batch_norm.fold import fixed_factors
from nbnorm.kernels.loops import table_factors
from nbnorm.kernels.runs import APPLY, SUM, WHOLE, Channel, Gated, Gradients, Runs
from nbnorm.kernels.statistics import Factors
from nbnorm.kernels.sums import in_lanes
from nbnorm.simd.masks import blend
from nbnorm.simd.memory import borrowed, elements_to_boundary, flat, reinterpreted
from nbnorm.simd.vectors import lanes_of, splat

__all__ = ["frozen"]


@device
def _finish(gated, shape, c, chunks, deviation, slots, gradients):
    """The gradients of channel c's gamma and beta, those that are wanted, from the sums of its chunks."""
    images, channels, length = shape
    sums = sum_of_chunks(gated.x, slots, c, chunks)
    factors = kept_factors(reinterpreted(slots, gated.x), kept_of(gated.x, c * chunks))
    total, product = fixed.mended(sums, gated, Channel(images, channels, length, c), factors)
    fixed.store_sums(gradients, c, total, product, deviation)


@device
def _pass_on_rows(gated, gradients, runs, channels, table, keeps):
    """dx = scale g and, where `keeps` says so, dresidual = g, over runs of `channels` neighbouring channels each.

    As `loops.differentiate` goes over them: the last run comes first, and whole vectors go across the borders of
    channels.
    """
    lanes, length, low = lanes_of(gated.dy), runs.length, splat(gated.floor)
    wide = length >= lanes
    for run in range(runs.number - 1, -1, -1):
        i = runs.first + run * runs.pitch
        end = i + length
        kept = in_lanes(table_factors(table, 0))
        rest = min(elements_to_boundary(gradients.dx, i), length) if wide else 0
        if rest > 0:
            fixed.pass_on_part(gated, gradients, i, rest, kept, low, keeps)
            i += rest
        for c in range(1, channels + 1):
            while i + lanes <= end:
                fixed.pass_on_full(gated, gradients, i, kept, low, keeps)
                i += lanes
            rest = end - i
            if c == channels:
                if rest > 0:
                    fixed.pass_on_part(gated, gradients, i, rest, kept, low, keeps)
            else:
                after = in_lanes(table_factors(table, c))
                if rest > 0 and wide:
                    fixed.pass_on_full(gated, gradients, i, _blended(rest, kept, after), low, keeps)
                    i += lanes
                elif rest > 0:
                    fixed.pass_on_part(gated, gradients, i, rest, kept, low, keeps)
                    i = end
                kept = after
            end += length


@device
def _blended(count, first, rest):
    """The factors of the first `count` lanes from one channel, those of the others from the next."""
    return Factors(
        blend(count, first.center, rest.center),
        blend(count, first.scale, rest.scale),
        blend(count, first.shift, rest.shift),
    )


@device
def _pass_on(gated, shape, cut, chunk, where, first, last, slots, gradients, summed):
    """dx and dresidual of a chunk of each of the channels from `first` up to `last`."""
    _, channels, length = shape
    x = gated.x
    done = summed and gradients.dresidual.size > 0  # g is in dresidual already
    given = Gated(
        gradients.dresidual if done else gated.dy, x, gated.y,
        x.dtype.type(np.nan) if done else gated.floor, gated.by_output,
    )  # fmt: skip
    table = table_of(x, slots, first, cut.chunks, chunk)
    runs = Runs(
        (where.image * channels + first) * length + where.element, channels * length,
        where.image_end - where.image, where.element_end - where.element,
    )  # fmt: skip
    if gradients.dx.size > 0 or not done:
        _pass_on_rows(given, gradients, runs, last - first, table, not done)


@device
def _task(phase, task, cut, gated, shape, affine, given, eps, slots, gradients):
    channels, x = shape[1], gated.x
    chunk, first = task % cut.chunks, task // cut.chunks * cut.group
    last = first + cut.group if first + cut.group < channels else channels
    where = range_of(chunk, cut.chunks, shape[0], shape[2])
    summed = fixed.wants_sums(gradients)
    if phase & SUM or not summed:
        for c in range(first, last):
            own = c * cut.chunks + chunk
            clear_sums(totals_of(x, slots, own))
            keep_factors(reinterpreted(slots, x), kept_of(x, own), fixed_factors(affine, given, eps, c, x.dtype.type))
    if phase & SUM and summed:
        sum_gradients(gated, shape, cut, chunk, where, first, last, slots, gradients.dresidual)
    if phase == WHOLE and summed:
        for c in range(first, last):
            _finish(gated, shape, c, cut.chunks, math.sqrt(given[1][c] + eps), slots, gradients)
    if phase & APPLY and gradients.dx.size + gradients.dresidual.size > 0:
        _pass_on(gated, shape, cut, chunk, where, first, last, slots, gradients, summed)


@kernel
def frozen(dy, x, y, affine, given, eps, gate, row, gradients):
    """Gradients of y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]) by given statistics.

    dx = gamma / sqrt(var + eps) g, dgamma = sum g (x - mean) / sqrt(var + eps), dbeta = sum g, dresidual = g, where g
    is dy or, where the ReLU cut the output off, 0. affine = (gamma, beta); given = (mean, var); gate = (relu, whether
    to read from y what it cut off); row: see `cut_of`. Written: gradients = (dx, dgamma, dbeta, dresidual), of which
    those that are empty are not wanted.
    """
    cut, shape, (relu, by_output) = cut_of(row), x.shape, gate
    room = np.empty(cut.slots)
    slots, affine, given = borrowed(room), fixed.borrowed_pair(affine), fixed.borrowed_pair(given)
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    summed = fixed.wants_sums(written)
    tasks = -(-shape[1] // cut.group) * cut.chunks
    whole = cut.chunks == 1 or not summed
    for k in range(1 if whole else 2):
        phase = WHOLE if whole else SUM if k == 0 else APPLY
        for c in range(shape[1] if phase == APPLY else 0):
            _finish(gated, shape, c, cut.chunks, math.sqrt(given[1][c] + eps), slots, written)
        for task in prange(tasks):
            _task(phase, np.intp(task), cut_of(row), gated, shape, affine, given, eps, slots, written)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use
