"""Batch norm of the valid values of rows: (N, C, L) with L > 1. Cut as `channels_first.cut` says.

A value that is not valid is made 0 by its byte of the mask before it is added up, and before it is stored.
"""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of, range_of
from nbnorm.kernels.batch_norm.channels_first.slots import (
    add_lanes,
    clear_sums,
    keep_factors,
    kept_factors,
    kept_of,
    sum_of_chunks,
    totals_of,
)
from nbnorm.kernels.batch_norm.masked.arithmetic import (
    add_valid_deviations,
    add_valid_products,
    clear_invalid,
    differentiate_valid,
    normalize_valid,
    shift_of_valid,
    valid_gradient_sums,
    valid_statistics,
)
from nbnorm.kernels.batch_norm.masked.valid import Marks, Valid, sample_valid
from nbnorm.kernels.runs import APPLY, OFFSET, SAMPLED, SLOPE, SUM, WHOLE, Channel, Gated, Gradients, Runs
from nbnorm.kernels.sums import in_lanes
from nbnorm.simd.memory import borrowed, flat, reinterpreted
from nbnorm.simd.vectors import splat

__all__ = ["backward", "clear", "forward"]


@device
def _sum(x, cut, where, chunk, first, last, valid, samples, slots):
    _, channels, length = x.shape
    xs, kept = flat(x), reinterpreted(slots, x)
    for c in range(first, last):
        own = c * cut.chunks + chunk
        clear_sums(totals_of(x, slots, own))
        kept[kept_of(x, own) + SAMPLED] = shift_of_valid(xs, samples, c * length)
    for n in range(where.image, where.image_end, cut.block_rows):
        count = cut.block_rows if n + cut.block_rows < where.image_end else where.image_end - n
        for c in range(first, last):
            own = c * cut.chunks + chunk
            shift, totals = kept[kept_of(x, own) + SAMPLED], totals_of(x, slots, own)
            for i in range(where.element, where.element_end, cut.block_length):
                width = cut.block_length if i + cut.block_length < where.element_end else where.element_end - i
                runs = Runs((n * channels + c) * length + i, channels * length, count, width)
                add_valid_deviations(xs, runs, Marks(valid.marks, n * length + i, length), shift, totals)
    for c in range(first, last):
        add_lanes(totals_of(x, slots, c * cut.chunks + chunk))


@device
def _finish(x, c, chunks, valid, affine, running, rule, slots, stats):
    images, channels, length = x.shape
    mean, inv_std = stats
    momentum, eps = rule
    total, squares = sum_of_chunks(x, slots, c, chunks)
    kept, k = reinterpreted(slots, x), kept_of(x, c * chunks)
    own = Channel(images, channels, length, c)
    mean[c], var = valid_statistics(flat(x), own, valid, kept[k + SAMPLED], total, squares)
    inv_std[c] = 1.0 / math.sqrt(var + eps)
    statistics.move_running(mean[c], var, valid.number, c, running[0], running[1], momentum)
    keep_factors(kept, k, statistics.factors(mean, inv_std, affine[0], affine[1], c))


@device
def _forward_task(phase, task, cut, x, residual, known, parameters, working, stats, y):
    affine, running, rule, relu = parameters
    slots, samples = working
    valid = Valid(known[0], known[1], known[2])
    images, channels, length = x.shape
    chunk, first = task % cut.chunks, task // cut.chunks * cut.group
    last = first + cut.group if first + cut.group < channels else channels
    where = range_of(chunk, cut.chunks, images, length)
    if phase & SUM:
        _sum(x, cut, where, chunk, first, last, valid, samples, slots)
    if phase == WHOLE:
        for c in range(first, last):
            _finish(x, c, cut.chunks, valid, affine, running, rule, slots, stats)
    if phase & APPLY and y.size > 0:
        low = splat(x.dtype.type(0.0 if relu else np.nan))
        kept, size = reinterpreted(slots, x), where.element_end - where.element
        for n in range(where.image_end - 1, where.image - 1, -1):
            mark = valid.marks, n * length + where.element
            for c in range(first, last):
                factors = in_lanes(kept_factors(kept, kept_of(x, c * cut.chunks)))
                y_row = (n * channels + c) * length + where.element, size
                normalize_valid(flat(x), flat(residual), flat(y), y_row, mark, factors, low, cut.ahead)


@kernel
def forward(x, residual, known, affine, running, rule, relu, row, stats, y):
    """`channels_first.forward` of the valid values: known, see `Valid`; y is 0 where nothing is valid.

    affine = (gamma, beta), running = (running_mean, running_var), both perhaps empty, rule = (momentum, eps).
    """
    cut, channels = cut_of(row), x.shape[1]
    room, offsets = np.empty(cut.slots), np.empty(statistics.SAMPLES, np.int64)
    x, residual, y = borrowed(x), borrowed(residual), borrowed(y)
    working, stats = (borrowed(room), borrowed(offsets)), (borrowed(stats[0]), borrowed(stats[1]))
    known = borrowed(known[0]), borrowed(known[1]), known[2]
    affine = borrowed(affine[0]), borrowed(affine[1])
    running = borrowed(running[0]), borrowed(running[1])
    valid = Valid(known[0], known[1], known[2])
    sample_valid(valid, x.shape, working[1])
    tasks = -(-channels // cut.group) * cut.chunks
    for k in range(1 if cut.chunks == 1 else 2):
        phase = WHOLE if cut.chunks == 1 else SUM if k == 0 else APPLY
        for c in range(channels if phase == APPLY else 0):
            _finish(x, c, cut.chunks, valid, affine, running, rule, working[0], stats)
        for task in prange(tasks):
            _forward_task(
                phase, np.intp(task), cut_of(row), x, residual, known, (affine, running, rule, relu), working, stats, y
            )
    room[0], offsets[0] = 0.0, 0  # a use of them after what was borrowed from them: they are freed after their last use


@device
def _sum_gradients(gated, shape, cut, where, chunk, first, last, valid, slots, dresidual):
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
                marks = Marks(valid.marks, n * length + i, length)
                add_valid_products(gated, dresidual, runs, marks, factors, totals)
    for c in range(first, last):
        add_lanes(totals_of(x, slots, c * cut.chunks + chunk))


@device
def _finish_gradients(gated, shape, c, chunks, valid, stats, slots, gradients):
    images, channels, length = shape
    mean, inv_std = stats
    dgamma, dbeta = gradients.dgamma, gradients.dbeta
    total, product = sum_of_chunks(gated.x, slots, c, chunks)
    kept, k = reinterpreted(slots, gated.x), kept_of(gated.x, c * chunks)
    factors = kept_factors(kept, k)
    if not -np.inf < total + product < np.inf:
        total, product = valid_gradient_sums(gated, Channel(images, channels, length, c), valid, factors)
    dbeta[c] = total
    dgamma[c], kept[k + SLOPE], kept[k + OFFSET] = statistics.gradient_factors(
        total, product, 1.0 / valid.number, mean[c], inv_std[c], factors.center
    )


@device
def _differentiate(gated, shape, cut, where, first, last, valid, slots, gradients):
    _, channels, length = shape
    x = gated.x
    done = gradients.dresidual.size > 0  # g is in dresidual already: one array less to read
    given = Gated(
        gradients.dresidual if done else gated.dy, x, gated.y,
        x.dtype.type(np.nan) if done else gated.floor, gated.by_output and not done,
    )  # fmt: skip
    kept, low, size = reinterpreted(slots, x), splat(given.floor), where.element_end - where.element
    for n in range(where.image_end - 1, where.image - 1, -1):
        mark = valid.marks, n * length + where.element
        for c in range(first, last):
            k = kept_of(x, c * cut.chunks)
            factors = in_lanes(kept_factors(kept, k)), splat(-kept[k + SLOPE]), splat(kept[k + OFFSET])
            dx_row = (n * channels + c) * length + where.element, size
            differentiate_valid(given, gradients.dx, dx_row, mark, factors, low, cut.ahead)


@device
def _backward_task(phase, task, cut, gated, shape, known, affine, stats, slots, gradients):
    valid = Valid(known[0], known[1], known[2])
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
            factors = statistics.factors(mean, inv_std, affine[0], affine[1], c)
            keep_factors(reinterpreted(slots, x), kept_of(x, own), factors)
        _sum_gradients(gated, shape, cut, where, chunk, first, last, valid, slots, gradients.dresidual)
    if phase == WHOLE:
        for c in range(first, last):
            _finish_gradients(gated, shape, c, cut.chunks, valid, stats, slots, gradients)
    if gradients.dx.size > 0 and phase & APPLY:
        _differentiate(gated, shape, cut, where, first, last, valid, slots, gradients)


@kernel
def backward(dy, x, y, known, stats, affine, relu, by_output, row, gradients):
    """Gradients of `forward`, by the formulas of `channels_first.backward` over the valid values; 0 elsewhere."""
    cut, shape = cut_of(row), x.shape
    room = np.empty(cut.slots)
    slots, stats = borrowed(room), (borrowed(stats[0]), borrowed(stats[1]))
    known = borrowed(known[0]), borrowed(known[1]), known[2]
    affine = borrowed(affine[0]), borrowed(affine[1])
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    valid = Valid(known[0], known[1], known[2])
    tasks = -(-shape[1] // cut.group) * cut.chunks
    for k in range(1 if cut.chunks == 1 else 2):
        phase = WHOLE if cut.chunks == 1 else SUM if k == 0 else APPLY
        for c in range(shape[1] if phase == APPLY else 0):
            _finish_gradients(gated, shape, c, cut.chunks, valid, stats, slots, written)
        for task in prange(tasks):
            _backward_task(phase, np.intp(task), cut_of(row), gated, shape, known, affine, stats, slots, written)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use


@kernel
def clear(values, known):
    """Overwrite values (N, C, L) with 0 where nothing is valid."""
    values, known = borrowed(values), (borrowed(known[0]), borrowed(known[1]), known[2])
    images, channels, length = values.shape
    for n in prange(images):
        image = np.intp(n)
        for c in range(channels):
            clear_invalid(flat(values), (image * channels + c) * length, length, known[0], image * length)
