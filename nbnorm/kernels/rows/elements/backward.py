"""Gradients over rows with a scale and a shift for each element. See `rows.dispatch` for the formulas.

A block of rows is summed and differentiated at once. Sums over rows of a column go down the block in registers, and on
to those of the task in float64.
"""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.cut import BLOCK_ROWS, Rows, cut_of
from nbnorm.kernels.rows.moments import RowFactors, in_all_lanes, row_factors
from nbnorm.kernels.runs import Gated
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, flat, item, reinterpreted, stream
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import VECTOR_BYTES, add, fma, gate, lanes_of, load, multiply, splat, store, subtract
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
    streaming: bool  #: whether dx is stored past the caches


@device
def padded(length, x):
    """What the sums of a group take: whole vectors of a row, and one more: what is left of a row may begin anywhere."""
    return (-(-length // lanes_of(x)) + 1) * lanes_of(x)


def room_of(rows: Rows, rows_of_task: int) -> int:
    """Return how many float64 `backward` wants room for: each task's sums of two gradients, and what a block keeps."""
    lanes = VECTOR_BYTES // rows.itemsize
    sums = 2 * rows.groups * (-(-rows.length // lanes) + 1) * lanes
    return -(-rows.number // rows_of_task) * (sums + KEPT * BLOCK_ROWS)


@device
def _gradient(gated, affine, i, j, factors, low):
    """g, x_hat and gamma of a vector."""
    x_hat = fma(subtract(load(gated.x, i), factors.center), factors.scale, factors.shift)
    w, g = load(affine[0], j), load(gated.dy, i)
    if gated.floor == gated.floor:  # not a NaN, which lets all pass
        v = load(gated.y, i) if gated.by_output else fma(x_hat, w, load(affine[1], j))
        g = gate(v, low, g)
    return g, x_hat, w


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
    while i + 4 * lanes <= end:
        g0, h0, w0 = _gradient(gated, affine, i, j, kept, low)
        g1, h1, w1 = _gradient(gated, affine, i + lanes, j + lanes, kept, low)
        g2, h2, w2 = _gradient(gated, affine, i + 2 * lanes, j + 2 * lanes, kept, low)
        g3, h3, w3 = _gradient(gated, affine, i + 3 * lanes, j + 3 * lanes, kept, low)
        if dresidual.size > 0:
            store(dresidual, i, g0)
            store(dresidual, i + lanes, g1)
            store(dresidual, i + 2 * lanes, g2)
            store(dresidual, i + 3 * lanes, g3)
        g0, g1, g2, g3 = multiply(g0, w0), multiply(g1, w1), multiply(g2, w2), multiply(g3, w3)
        sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
        products = widen_add(products, fma(g3, h3, fma(g2, h2, fma(g1, h1, multiply(g0, h0)))))
        i += 4 * lanes
        j += 4 * lanes
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


class Taken(NamedTuple):
    """What a row's dx takes away, in all lanes: dx = scale * (gamma * g - offset - x_hat * slope).

    Both are taken away before what is left is scaled: of a constant row nothing is left, however large the scale.
    """

    factors: RowFactors
    offset: Any
    slope: Any


@device
def _taken(kept, r):
    """The same of row r of a block."""
    k = r * KEPT
    return Taken(_kept_factors(kept, k), splat(item(kept, k + 3)), splat(item(kept, k + 4)))


@device
def _derivative(g, x_hat, w, taken):
    return multiply(taken.factors.scale, fma(x_hat, taken.slope, subtract(multiply(g, w), taken.offset)))


@device
def _row_full(gated, affine, dx, i, j, taken, low, streaming):
    """dx of a vector; returns g and x_hat."""
    g, x_hat, w = _gradient(gated, affine, i, j, taken.factors, low)
    if streaming:
        stream(dx, i, _derivative(g, x_hat, w, taken))
    elif dx.size > 0:
        store(dx, i, _derivative(g, x_hat, w, taken))
    return g, x_hat


@device
def _row_part(gated, affine, dx, i, j, rest, taken, low):
    """The same of the first lanes of a vector."""
    g, x_hat, w = _gradient_part(gated, affine, i, j, rest, taken.factors, low)
    if dx.size > 0:
        store_part(dx, i, rest, _derivative(g, x_hat, w, taken))
    return g, x_hat


@device
def _differentiate_four(gated, affine, dx, sums, block, kept, r, head):
    """`_differentiate` of the whole vectors of rows r to r + 3 behind the first `head` columns: all is at hand."""
    first, pitch, _, own, own_sums, length, streaming = block
    lanes, low, line = lanes_of(gated.x), splat(gated.floor), sums.size // 2
    t0, t1, t2, t3 = _taken(kept, r), _taken(kept, r + 1), _taken(kept, r + 2), _taken(kept, r + 3)
    i, j, k = first + r * pitch + head, own + head, own_sums + head
    end = own + length
    while j + lanes <= end:
        g0, h0 = _row_full(gated, affine, dx, i, j, t0, low, streaming)
        g1, h1 = _row_full(gated, affine, dx, i + pitch, j, t1, low, streaming)
        g2, h2 = _row_full(gated, affine, dx, i + 2 * pitch, j, t2, low, streaming)
        g3, h3 = _row_full(gated, affine, dx, i + 3 * pitch, j, t3, low, streaming)
        add_wide(sums, k, fma(g3, h3, fma(g2, h2, fma(g1, h1, multiply(g0, h0)))))
        add_wide(sums, line + k, add(add(add(g0, g1), g2), g3))
        i += lanes
        j += lanes
        k += lanes


@device
def _differentiate_columns(gated, affine, dx, sums, block, kept, begin, end, column, rest):
    """The same of rows `begin` up to `end`, and of at most a vector of columns."""
    lanes, low, line = lanes_of(gated.x), splat(gated.floor), sums.size // 2
    dgamma = dbeta = splat(gated.x.dtype.type(0))
    for row in range(begin, end):
        i, taken = block.first + row * block.pitch + column, _taken(kept, row)
        if rest == lanes:
            g, x_hat = _row_full(gated, affine, dx, i, block.own + column, taken, low, False)
        else:
            g, x_hat = _row_part(gated, affine, dx, i, block.own + column, rest, taken, low)
        dgamma, dbeta = fma(g, x_hat, dgamma), add(dbeta, g)
    add_wide(sums, block.sums + column, dgamma)
    add_wide(sums, line + block.sums + column, dbeta)


@device
def _differentiate(gated, affine, dx, sums, block, kept):
    """dx of a block of rows; the sums over its rows of g x_hat and of g go to `sums`, in float64."""
    first, count, length, streaming = block.first, block.number, block.length, block.streaming
    lanes = lanes_of(gated.x)
    head = min(elements_to_boundary(dx, first), length) if streaming else 0
    for r in range(0, count, ROWS_OF_SUM):
        end = min(r + ROWS_OF_SUM, count)
        body = head + (length - head) // lanes * lanes
        if end - r == ROWS_OF_SUM:
            _differentiate_four(gated, affine, dx, sums, block, kept, r, head)
            if head > 0:
                _differentiate_columns(gated, affine, dx, sums, block, kept, r, end, 0, head)
        else:
            body = 0
        for column in range(body, length, lanes):
            rest = min(length - column, lanes)
            _differentiate_columns(gated, affine, dx, sums, block, kept, r, end, column, rest)


@device
def _task(first, last, cut, gated, affine, stats, sums, kept, gradients):
    """The rows from `first` up to `last`: all groups of some samples."""
    dx, dresidual, length = gradients
    mean, inv_std = stats
    groups, as_values = cut.groups, gated.x.dtype.type
    # All rows of a block begin at the same distance from where a vector does.
    streaming = cut.streaming and (groups * length) % lanes_of(dx) == 0 and dx.size > 0
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
                offset = as_values(total / length if cut.centered else 0.0)
                _keep(kept, count * KEPT, factors, offset, as_values(-product / length))
                count += 1
            rows = Block(
                (block + group) * length, groups * length, count, own, group * padded(length, dx), length, streaming
            )
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
def backward(dy, x, y, stats, gamma, beta, row, room, gradients):
    """Gradients of `forward`; what the ReLU cut off is computed anew from x, or taken from y.

    stats = (mean, inv_std), room = at least `room_of` float64. Written: gradients = (dx, dgamma, dbeta, dresidual), of
    which an empty dx or dresidual is not wanted.
    """
    cut = cut_of(row)
    rows, length, _ = x.shape
    tasks, tiles = -(-rows // cut.rows), -(-length // FINISHED)
    line = cut.groups * padded(length, x)
    for task in prange(tasks):
        way, k = cut_of(row), np.intp(task)
        gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(0.0 if way.relu else np.nan), way.by_output)
        affine, known = (flat(gamma), flat(beta)), (flat(stats[0]), flat(stats[1]))
        sums = flat(room)[k * 2 * line : (k + 1) * 2 * line]
        here = tasks * 2 * line + k * KEPT * BLOCK_ROWS
        mine = reinterpreted(flat(room)[here : here + KEPT * BLOCK_ROWS], x)
        written = flat(gradients[0]), flat(gradients[3]), length
        _task(k * way.rows, min((k + 1) * way.rows, rows), way, gated, affine, known, sums, mine, written)
    for task in prange(cut.groups * tiles):
        group, column = np.intp(task) // tiles, np.intp(task) % tiles * FINISHED
        columns = (group * padded(length, x) + column, group * length + column, min(FINISHED, length - column))
        _finish(flat(room), line, tasks, columns, flat(gradients[1]), flat(gradients[2]))
