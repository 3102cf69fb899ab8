"""Gradients over rows with a scale and a shift for each element. See `rows.dispatch` for the formulas.

A block of rows is summed and differentiated at once. Sums over rows of a column go down the block in registers, and on
to those of the task in float64.
"""

from typing import NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.cut import BLOCK_ROWS, cut_of
from nbnorm.kernels.rows.moments import RowFactors, in_all_lanes, row_factors
from nbnorm.kernels.runs import Gated
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import flat, item
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, fma, gate, lanes_of, load, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

FINISHED = 1024  # columns whose sums a task adds up: fewer take less time than a thread needs to begin them
# Rows that are summed in the type of x before they are added up in float64: with more, sums are less accurate than
# those of other libraries (a test holds them against PyTorch's), with fewer the time goes into widening.
ROWS_OF_SUM = 4
KEPT = 5  # values kept of a row of a block: its factors, and what dx takes away of x_hat and of 1


class Block(NamedTuple):
    """`number` rows of a group: the first from element `first` on, the others `pitch` apart."""

    first: int
    pitch: int
    number: int
    own: int  #: where the group's parameters begin
    sums: int  #: and where the sums that are their gradients do
    length: int


@device
def padded(length, x):
    """Elements of a row, rounded up to whole vectors: what the sums of a group take."""
    return -(-length // lanes_of(x)) * lanes_of(x)


@device
def _gradient(gated, affine, i, j, factors, low):
    """g, x_hat and gamma of a vector."""
    x_hat = fma(subtract(load(gated.x, i), factors.center), factors.scale, factors.shift)
    w = load(affine[0], j)
    v = load(gated.y, i) if gated.by_output else fma(x_hat, w, load(affine[1], j))
    return gate(v, low, load(gated.dy, i)), x_hat, w


@device
def _gradient_part(gated, affine, i, j, rest, factors, low):
    """The same of the first lanes of a vector; g is 0 in the others."""
    zero = splat(gated.x.dtype.type(0))
    x_hat = fma(subtract(load_part(gated.x, i, rest, factors.center), factors.center), factors.scale, factors.shift)
    w = load_part(affine[0], j, rest, zero)
    v = load_part(gated.y, i, rest, zero) if gated.by_output else fma(x_hat, w, load_part(affine[1], j, rest, zero))
    return gate(v, low, load_part(gated.dy, i, rest, zero)), x_hat, w


@device
def _sums(gated, affine, dresidual, first, own, length, factors):
    """Sums of gamma g and of gamma g x_hat over a row, in float64; g goes to dresidual unless that is empty."""
    lanes, kept, low = lanes_of(gated.x), in_all_lanes(factors), splat(gated.floor)
    sums = products = no_sum(gated.x)
    i, j, end = first, own, first + length
    while i + 2 * lanes <= end:
        g0, h0, w0 = _gradient(gated, affine, i, j, kept, low)
        g1, h1, w1 = _gradient(gated, affine, i + lanes, j + lanes, kept, low)
        if dresidual.size > 0:
            store(dresidual, i, g0)
            store(dresidual, i + lanes, g1)
        g0, g1 = multiply(g0, w0), multiply(g1, w1)
        sums = widen_add(sums, add(g0, g1))
        products = widen_add(products, fma(g1, h1, multiply(g0, h0)))
        i += 2 * lanes
        j += 2 * lanes
    while i < end:
        rest = min(end - i, lanes)
        g0, h0, w0 = _gradient_part(gated, affine, i, j, rest, kept, low)
        if dresidual.size > 0:
            store_part(dresidual, i, rest, g0)
        g0 = multiply(g0, w0)
        sums, products = widen_add(sums, g0), widen_add(products, multiply(g0, h0))
        i += lanes
        j += lanes
    return sum_lanes(sums), sum_lanes(products)


@device
def _sums_in_double(gated, affine, first, own, length, factors):
    """The same where float32 overflowed or a NaN came."""
    total = product = 0.0
    for k in range(length):
        i = first + k
        x_hat = (gated.x[i] - factors.center) * factors.scale + factors.shift
        w = affine[0][own + k]
        v = gated.y[i] if gated.by_output else x_hat * w + affine[1][own + k]
        if not v <= gated.floor:
            h = np.float64(gated.dy[i]) * np.float64(w)
            total += h
            product += h * np.float64(x_hat)
    return total, product


@device
def _keep(kept, k, factors, offset, slope):
    kept[k], kept[k + 1], kept[k + 2] = factors
    kept[k + 3], kept[k + 4] = offset, slope


@device
def _kept_factors(kept, k):
    return in_all_lanes(RowFactors(item(kept, k), item(kept, k + 1), item(kept, k + 2)))


@device
def _differentiated(g, x_hat, w, scale, kept, k):
    """dx = scale * gamma * g - offset - x_hat * slope"""
    v = fma(multiply(g, w), scale, splat(item(kept, k + 3)))
    return fma(x_hat, splat(item(kept, k + 4)), v)


@device
def _differentiate(gated, affine, dx, sums, block, kept):
    """dx of a block of rows; the sums over its rows of g x_hat and of g go to `sums`, in float64."""
    first, pitch, count, own, own_sums, length = block
    x, lanes, low = gated.x, lanes_of(gated.x), splat(gated.floor)
    zero, line = splat(x.dtype.type(0)), sums.size // 2
    for column in range(0, length, lanes):
        rest = min(length - column, lanes)
        i, j = first + column, own + column
        all_dgamma = all_dbeta = no_sum(x)
        for r0 in range(0, count, ROWS_OF_SUM):
            dgamma = dbeta = zero
            for r in range(r0, min(r0 + ROWS_OF_SUM, count)):
                factors = _kept_factors(kept, r * KEPT)
                if rest == lanes:
                    g, x_hat, w = _gradient(gated, affine, i, j, factors, low)
                    if dx.size > 0:
                        store(dx, i, _differentiated(g, x_hat, w, factors.scale, kept, r * KEPT))
                else:
                    g, x_hat, w = _gradient_part(gated, affine, i, j, rest, factors, low)
                    if dx.size > 0:
                        store_part(dx, i, rest, _differentiated(g, x_hat, w, factors.scale, kept, r * KEPT))
                dgamma, dbeta = fma(g, x_hat, dgamma), add(dbeta, g)
                i += pitch
            all_dgamma, all_dbeta = widen_add(all_dgamma, dgamma), widen_add(all_dbeta, dbeta)
        add_wide(sums, own_sums + column, all_dgamma)
        add_wide(sums, line + own_sums + column, all_dbeta)


@device
def _task(first, last, cut, gated, affine, stats, sums, kept, gradients):
    """The rows from `first` up to `last`: all groups of some samples."""
    dx, dresidual, length = gradients
    mean, inv_std = stats
    groups, as_values = cut.groups, gated.x.dtype.type
    done = dresidual.size > 0  # g is in dresidual then: one array less to read
    for k in range(sums.size):
        sums[k] = 0.0
    passed = Gated(
        dresidual if done else gated.dy, gated.x, gated.y, as_values(np.nan) if done else gated.floor,
        gated.by_output and not done,
    )  # fmt: skip
    for block in range(first, last, BLOCK_ROWS * groups):
        for group in range(groups):
            own, count = group * length, 0
            for k in range(block + group, min(block + BLOCK_ROWS * groups, last), groups):
                factors = row_factors(gated.x, mean[k] if cut.centered else 0.0, inv_std[k])
                total, product = _sums(gated, affine, dresidual, k * length, own, length, factors)
                if not -np.inf < total + product < np.inf:
                    total, product = _sums_in_double(passed, affine, k * length, own, length, factors)
                scale = -inv_std[k] / length
                offset = as_values(total * scale if cut.centered else 0.0)
                _keep(kept, count * KEPT, factors, offset, as_values(product * scale))
                count += 1
            rows = Block((block + group) * length, groups * length, count, own, group * padded(length, dx), length)
            _differentiate(passed, affine, dx, sums, rows, kept)


@device
def _finish(sums, line, tasks, columns, dgamma, dbeta):
    """The gradients of a range of parameters: the sums of all tasks, in order."""
    first_sum, own, count = columns
    for task in range(1, tasks):
        for first in (first_sum, line + first_sum):
            total = sums[first : first + count]
            other = sums[2 * task * line + first : 2 * task * line + first + count]
            for j in range(count):
                total[j] += other[j]
    for j in range(count):
        dgamma[own + j] = sums[first_sum + j]
        dbeta[own + j] = sums[line + first_sum + j]


@kernel
def backward(dy, x, y, stats, gamma, beta, row, gradients):
    """Gradients of `forward`; what the ReLU cut off is computed anew from x, or taken from y.

    stats = (mean, inv_std). Written: gradients = (dx, dgamma, dbeta, dresidual), of which an empty dx or dresidual is
    not wanted.
    """
    cut = cut_of(row)
    rows, length, _ = x.shape
    tasks, tiles = -(-rows // cut.rows), -(-length // FINISHED)
    line = cut.groups * padded(length, x)
    # Views that do not count references are made within the loops: these arrays are freed after their last use.
    room, kept = np.empty(tasks * 2 * line), np.empty(tasks * KEPT * BLOCK_ROWS, x.dtype)
    for task in prange(tasks):
        way, k = cut_of(row), np.intp(task)
        gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if way.relu else np.nan), way.by_output)
        affine, known = (flat(gamma), flat(beta)), (flat(stats[0]), flat(stats[1]))
        sums = flat(room)[k * 2 * line : (k + 1) * 2 * line]
        mine = flat(kept)[k * KEPT * BLOCK_ROWS : (k + 1) * KEPT * BLOCK_ROWS]
        written = flat(gradients[0]), flat(gradients[3]), length
        _task(k * way.rows, min((k + 1) * way.rows, rows), way, gated, affine, known, sums, mine, written)
    for task in prange(cut.groups * tiles):
        group, column = np.intp(task) // tiles, np.intp(task) % tiles * FINISHED
        columns = (group * padded(length, x) + column, group * length + column, min(FINISHED, length - column))
        _finish(flat(room), line, tasks, columns, flat(gradients[1]), flat(gradients[2]))
