"""Gradients over rows of channels with a scale, a shift and a floor for each. See `rows.dispatch` for the formulas.

A row is summed channel by channel, and then differentiated. The sums of its channels are kept for the gradients of
their parameters, which add those of all samples.
"""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.channels.forward import channel_factors, floor_of
from nbnorm.kernels.rows.cut import cut_of
from nbnorm.kernels.runs import Channel, Gated
from nbnorm.kernels.statistics import gradient_sums
from nbnorm.kernels.sums import gated_at, gated_part_at, in_lanes
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, flat, stream
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, fma, lanes_of, load, multiply, splat, store, subtract
from nbnorm.simd.widening import no_sum, widen_add

FINISHED = 64  # channels whose sums a task adds up: fewer take less time than a thread needs to begin them


def room_of(rows: int, channels: int) -> int:
    """Return how many float64 `backward` wants room for: three sums of each channel of each row."""
    return 3 * rows * channels


@device
def sums_of_channel(gated, dresidual, first, length, factors):
    """Sums of g and of g (x - center) over a channel of a row, in float64; g goes to dresidual unless that is empty."""
    lanes, kept, low = lanes_of(gated.x), in_lanes(factors), splat(gated.floor)
    sums = products = no_sum(gated.x)
    i, end = first, first + length
    while i + 4 * lanes <= end:
        g0, d0 = gated_at(gated, i, kept, low)
        g1, d1 = gated_at(gated, i + lanes, kept, low)
        g2, d2 = gated_at(gated, i + 2 * lanes, kept, low)
        g3, d3 = gated_at(gated, i + 3 * lanes, kept, low)
        if dresidual.size > 0:
            store(dresidual, i, g0)
            store(dresidual, i + lanes, g1)
            store(dresidual, i + 2 * lanes, g2)
            store(dresidual, i + 3 * lanes, g3)
        sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
        products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
        i += 4 * lanes
    s = p = splat(gated.x.dtype.type(0))
    while i + lanes <= end:
        g0, d0 = gated_at(gated, i, kept, low)
        if dresidual.size > 0:
            store(dresidual, i, g0)
        s, p = add(s, g0), fma(g0, d0, p)
        i += lanes
    if i < end:
        g0, d0 = gated_part_at(gated, i, end - i, kept, low)
        if dresidual.size > 0:
            store_part(dresidual, i, end - i, g0)
        s, p = add(s, g0), fma(g0, d0, p)
    return sum_lanes(widen_add(sums, s)), sum_lanes(widen_add(products, p))


@device
def _sum_of_blocked(gated, first, length, factors):
    """Sum of what the floor kept back of dy over a channel of a row, in float64."""
    lanes, kept, low = lanes_of(gated.x), in_lanes(factors), splat(gated.floor)
    zero, sums = splat(gated.x.dtype.type(0)), no_sum(gated.x)
    i, end = first, first + length
    while i + lanes <= end:
        g, _ = gated_at(gated, i, kept, low)
        sums = widen_add(sums, subtract(load(gated.dy, i), g))
        i += lanes
    if i < end:
        g, _ = gated_part_at(gated, i, end - i, kept, low)
        sums = widen_add(sums, subtract(load_part(gated.dy, i, end - i, zero), g))
    return sum_lanes(sums)


class Line(NamedTuple):
    """dx = inv_std * (gamma * g + (x - center) * slope + offset): what the channels of a row have in common."""

    inv_std: Any
    slope: Any
    offset: Any


@device
def _derivative(g, d, gamma, line):
    return multiply(line.inv_std, fma(d, line.slope, fma(g, gamma, line.offset)))


@device
def _differentiate_part(gated, dx, i, rest, factors, low, gamma, line):
    g, d = gated_part_at(gated, i, rest, factors, low)
    store_part(dx, i, rest, _derivative(g, d, gamma, line))


@device
def differentiate_channel(gated, dx, first, length, factors, gamma, line, streaming):
    """dx over a channel of a row; the last vector as in `forward`."""
    lanes, kept, low = lanes_of(gated.x), in_lanes(factors), splat(gated.floor)
    w, line = splat(gamma), Line(splat(line.inv_std), splat(line.slope), splat(line.offset))
    i, end = first, first + length
    if length < lanes:
        _differentiate_part(gated, dx, i, length, kept, low, w, line)
        return
    if streaming:
        head = min(elements_to_boundary(dx, i), length)
        if head > 0:
            _differentiate_part(gated, dx, i, head, kept, low, w, line)
            i += head
        while i + lanes <= end:
            g, d = gated_at(gated, i, kept, low)
            stream(dx, i, _derivative(g, d, w, line))
            i += lanes
        if i < end:
            _differentiate_part(gated, dx, i, end - i, kept, low, w, line)
        return
    g, d = gated_at(gated, end - lanes, kept, low)
    last = _derivative(g, d, w, line)
    while i + lanes <= end:
        g, d = gated_at(gated, i, kept, low)
        store(dx, i, _derivative(g, d, w, line))
        i += lanes
    store(dx, end - lanes, last)


@device
def _row(k, shape, cut, gated, parameters, stats, sums, written):
    """Sums and dx of a row."""
    rows, channels, length = shape
    gamma, beta, tau = parameters
    mean, inv_std = stats
    dx, dresidual = written
    x, as_values = gated.x, gated.x.dtype.type
    own, done = k % cut.groups * channels, dresidual.size > 0  # g is in dresidual then: one array less to read
    total = product = 0.0
    rounded = mean - float(as_values(mean))
    for c in range(channels):
        i = (k * channels + c) * length
        factors = channel_factors(x, mean, inv_std, gamma, beta, own + c)
        with_floor = Gated(gated.dy, x, gated.y, floor_of(x, tau, own + c, cut.relu), gated.by_output)
        if tau.size > 0:
            sums[2 * rows * channels + k * channels + c] = _sum_of_blocked(with_floor, i, length, factors)
        s, p = sums_of_channel(with_floor, dresidual, i, length, factors)
        if not -np.inf < s + p < np.inf:
            passed = Gated(dresidual, x, gated.y, as_values(np.nan), False) if done else with_floor
            s, p = gradient_sums(passed, Channel(1, rows * channels, length, k * channels + c), factors)
        p -= rounded * s
        sums[k * channels + c] = p * inv_std
        sums[rows * channels + k * channels + c] = s
        total += s * gamma[own + c]
        product += p * gamma[own + c]
    each = 1.0 / (channels * length)
    slope = -product * each * inv_std * inv_std
    offset = -total * each - slope * rounded if cut.centered else 0.0
    line = Line(as_values(inv_std), as_values(slope), as_values(offset))
    for c in range(channels if dx.size > 0 else 0):
        factors = channel_factors(x, mean, inv_std, gamma, beta, own + c)
        floor = as_values(np.nan) if done else floor_of(x, tau, own + c, cut.relu)
        passed = Gated(dresidual if done else gated.dy, x, gated.y, floor, gated.by_output and not done)
        differentiate_channel(
            passed, dx, (k * channels + c) * length, length, factors, gamma[own + c], line, cut.streaming
        )


@device
def _finish(sums, which, columns, target):
    """The gradient of one kind of parameter, of a range of channels: the sums of all samples, in order."""
    size, every, first, last = columns
    if target.size > 0:
        total = sums[which * size + first : which * size + last]
        for n in range(every, size, every):
            other = sums[which * size + n + first : which * size + n + last]
            for c in range(last - first):
                total[c] += other[c]
        for c in range(last - first):
            target[first + c] = total[c]


@kernel
def backward(dy, x, y, stats, parameters, row, room, gradients):
    """Gradients of `forward`; what the floor kept back is computed anew from x, or taken from y.

    stats = (mean, inv_std), parameters = (gamma, beta, tau), room = at least `room_of` float64. Written: gradients =
    (dx, dgamma, dbeta, dtau, dresidual), of which an empty dx or dresidual is not wanted; dtau is empty without tau.
    """
    cut = cut_of(row)
    rows, channels, length = x.shape
    every = cut.groups * channels
    for task in prange(-(-rows // cut.rows)):
        way = cut_of(row)
        gated = Gated(flat(dy), flat(x), flat(y), x.dtype.type(np.nan), way.by_output)
        own = flat(parameters[0]), flat(parameters[1]), flat(parameters[2])
        written = flat(gradients[0]), flat(gradients[4])
        first = np.intp(task) * way.rows
        for k in range(first, min(first + way.rows, rows)):
            given = (stats[0][k] if way.centered else 0.0), stats[1][k]
            _row(k, (rows, channels, length), way, gated, own, given, flat(room), written)
    for task in prange(-(-every // FINISHED)):
        first = np.intp(task) * FINISHED
        last = min(first + FINISHED, every)
        _finish(flat(room), 0, (rows * channels, every, first, last), flat(gradients[1]))
        _finish(flat(room), 1, (rows * channels, every, first, last), flat(gradients[2]))
        _finish(flat(room), 2, (rows * channels, every, first, last), flat(gradients[3]))
