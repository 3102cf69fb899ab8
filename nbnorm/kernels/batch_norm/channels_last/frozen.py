"""The backward pass of batch norm by given statistics over columns: (M, C, 1). See `cut` and `fixed`."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.batch_norm import fixed
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.kernels.batch_norm.channels_last.backward import sum_gradients
from nbnorm.kernels.batch_norm.channels_last.cut import FINISHED, columns_of, cut_of, finished_by
from nbnorm.kernels.batch_norm.channels_last.sums import add_chunks, line_of
from nbnorm.kernels.batch_norm.fold import fixed_factors
from nbnorm.kernels.runs import APPLY, FINISH, SUM, WHOLE, Channel, Gated, Gradients, Runs
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import lanes_of, load, splat

__all__ = ["frozen"]


@device
def _finish(gated, rows, given, eps, working, gradients, c0, c1):
    """The gradients of gamma and beta of columns c0 to c1, those that are wanted."""
    sums, factors = working
    channels = given[1].size
    line = line_of(gated.x, channels)
    for c in range(c0, c1):
        own = Factors(
            factors[loops.CENTER * channels + c],
            factors[loops.SCALE * channels + c],
            factors[loops.SHIFT * channels + c],
        )
        total, product = fixed.mended((sums[c], sums[line + c]), gated, Channel(rows, channels, 1, c), own)
        fixed.store_sums(gradients, c, total, product, math.sqrt(given[1][c] + eps))


@device
def _loaded(factors, channels, c):
    """center, scale, shift of a whole vector of columns from c on."""
    return Factors(load(factors, c), load(factors, channels + c), load(factors, 2 * channels + c))


@device
def _pass_on_columns(gated, gradients, runs, factors, c):
    """dx = scale g and dresidual = g over the rows of columns from c on, where those are wanted."""
    first, pitch, count, width = runs
    lanes, low = lanes_of(gated.dy), splat(gated.floor)
    if width <= lanes:
        kept = loops.kept_columns(factors, pitch, c, width)
        for row in range(count):
            fixed.pass_on_part(gated, gradients, first + row * pitch, width, kept, low, True)
        return
    for row in range(count):
        i = first + row * pitch
        shift, end = c - i, i + width
        while i + lanes <= end:
            kept = _loaded(factors, pitch, i + shift)
            fixed.pass_on_full(gated, gradients, i, kept, low, True)
            i += lanes
        if i < end:
            kept = loops.kept_columns(factors, pitch, i + shift, end - i)
            fixed.pass_on_part(gated, gradients, i, end - i, kept, low, True)


@device
def _task(phase, task, cut, gated, shape, given, eps, working, gradients):
    sums, factors = working
    rows, channels, _ = shape
    columns, summed = columns_of(task, cut, rows, channels), fixed.wants_sums(gradients)
    if phase & SUM and summed:
        sum_gradients(gated, channels, columns, working)
    if phase & FINISH and summed:
        c0, c1 = finished_by(task, channels) if phase == FINISH else (columns.c0, columns.c1)
        add_chunks(sums, line_of(gated.x, channels), -(-rows // cut.height), c0, c1)
        _finish(gated, rows, given, eps, working, gradients, c0, c1)
    if phase & APPLY and gradients.dx.size + gradients.dresidual.size > 0:
        runs = Runs(columns.r0 * channels + columns.c0, channels, columns.r1 - columns.r0, columns.c1 - columns.c0)
        _pass_on_columns(gated, gradients, runs, factors, columns.c0)


@kernel
def frozen(dy, x, y, affine, given, eps, gate, row, gradients):
    """Gradients of the norm by given statistics: as `channels_first.frozen`, for (M, C, 1)."""
    cut, shape, (relu, by_output) = cut_of(row), x.shape, gate
    rows, channels, _ = shape
    room, kept = np.empty(cut.slots), np.empty(loops.FACTORS * channels, x.dtype)
    working, affine, given = (borrowed(room), borrowed(kept)), fixed.borrowed_pair(affine), fixed.borrowed_pair(given)
    gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if relu else np.nan), by_output)
    written = Gradients(flat(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), flat(gradients[3]))
    for c in range(channels):
        own = fixed_factors(affine, given, eps, c, x.dtype.type)
        kept[loops.CENTER * channels + c], kept[loops.SCALE * channels + c] = own.center, own.scale
        kept[loops.SHIFT * channels + c] = own.shift
    chunks = -(-rows // cut.height)
    whole = chunks == 1 or not fixed.wants_sums(written)
    for k in range(1 if whole else 3):
        phase = WHOLE if whole else 1 << k
        tasks = -(-channels // FINISHED) if phase == FINISH else -(-channels // cut.width) * chunks
        for task in prange(tasks):
            _task(phase, np.intp(task), cut_of(row), gated, shape, given, eps, working, written)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
