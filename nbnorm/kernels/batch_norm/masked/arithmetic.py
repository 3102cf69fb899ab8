"""What `kernels.statistics` and `kernels.sums` do, for the valid values of a channel alone."""

from nbnorm.jit import device
from nbnorm.kernels import statistics
from nbnorm.kernels.sums import VECTORS_OF_SUM, gated_at, gated_part_at, in_lanes
from nbnorm.simd.kept import keep
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, prefetch_for_store
from nbnorm.simd.vectors import add, fma, lanes_of, load, maximum, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

__all__ = [
    "add_valid_deviations", "add_valid_products", "clear_invalid", "differentiate_valid", "normalize_valid",
    "shift_of_valid", "valid_gradient_sums", "valid_statistics",
]  # fmt: skip


@device
def shift_of_valid(x, samples, channel_offset):
    """`statistics.sampled_shift` of valid values: x[sample + channel_offset]."""
    first = x[samples[0] + channel_offset]
    total = x.dtype.type(0)
    for k in range(statistics.SAMPLES):
        total += x[samples[k] + channel_offset] - first
    return first + total / x.dtype.type(statistics.SAMPLES)


@device
def valid_statistics(x, channel, valid, shift, total, squares):
    """`statistics.statistics` of the valid values."""
    each = 1.0 / valid.number
    offset = total * each
    var = squares * each - offset * offset
    if total == 0.0 and squares == 0.0:
        return float(shift), 0.0
    if statistics.is_trusted(x, offset, var):
        return shift + offset, var
    return _in_two_passes(x, channel, valid)


@device
def _in_two_passes(x, channel, valid):
    images, channels, length, c = channel
    mean = var = 0.0
    for _ in range(3):  # the third pass only improves the mean
        total = squares = 0.0
        for n in range(images):
            start, mark = (n * channels + c) * length, n * length
            for i in range(length):
                if valid.marks[mark + i] != 0:
                    d = float(x[start + i]) - mean
                    total += d
                    squares += d * d
        offset = total / valid.number
        mean += offset
        var = squares / valid.number - offset * offset
    return mean, var


@device
def valid_gradient_sums(gated, channel, valid, factors):
    """`statistics.gradient_sums` of the valid values."""
    dy, x, y, floor, by_output = gated
    images, channels, length, c = channel
    center, scale, shift = factors
    total = product = 0.0
    for n in range(images):
        start, mark = (n * channels + c) * length, n * length
        for i in range(length):
            if valid.marks[mark + i] != 0:
                v = y[start + i] if by_output else (x[start + i] - center) * scale + shift
                if not v <= floor:
                    total += dy[start + i]
                    product += float(dy[start + i]) * (float(x[start + i]) - center)
    return total, product


@device
def _deviation(x, i, k, marks, mark):
    return keep(subtract(load(x, i), k), marks.values, mark + i)


@device
def add_valid_deviations(x, runs, marks, shift, totals):
    """`sums.add_deviations` where the marks, as many for each run, are not 0."""
    lanes = lanes_of(x)
    k = splat(shift)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    rest = runs.length & (lanes - 1)
    whole = runs.length - rest
    body = whole // (4 * lanes) * 4 * lanes
    for run in range(runs.number):
        i = runs.first + run * runs.pitch
        mark = marks.first + run * marks.pitch - i
        end, body_end = i + whole, i + body
        while i < body_end:
            d0, d1 = _deviation(x, i, k, marks, mark), _deviation(x, i + lanes, k, marks, mark)
            d2, d3 = _deviation(x, i + 2 * lanes, k, marks, mark), _deviation(x, i + 3 * lanes, k, marks, mark)
            a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
            b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
            i += 4 * lanes
        while i < end:
            d0 = _deviation(x, i, k, marks, mark)
            a0, b0 = add(a0, d0), fma(d0, d0, b0)
            i += lanes
        if rest > 0:
            d3 = keep(subtract(load_part(x, i, rest, k), k), marks.values, mark + i)
            a3, b3 = add(a3, d3), fma(d3, d3, b3)
    add_wide(totals.values, totals.first, add(add(a0, a1), add(a2, a3)))
    add_wide(totals.values, totals.second, add(add(b0, b1), add(b2, b3)))


@device
def _product_terms(gated, dresidual, i, factors, low, marks, mark):
    """g and x - center of a vector, 0 where the marks are; g goes to dresidual unless that is empty."""
    g, d = gated_at(gated, i, factors, low)
    g, d = keep(g, marks.values, mark + i), keep(d, marks.values, mark + i)
    if dresidual.size > 0:
        store(dresidual, i, g)
    return g, d


@device
def add_valid_products(gated, dresidual, runs, marks, factors, totals):
    """`sums.add_products` where the marks are not 0; dresidual is 0 elsewhere."""
    lanes, kept, low = lanes_of(gated.x), in_lanes(factors), splat(gated.floor)
    zero = splat(gated.x.dtype.type(0))
    sums = products = no_sum(gated.x)
    s = p = zero
    rest = runs.length & (lanes - 1)
    whole = runs.length - rest
    body = whole // (4 * lanes) * 4 * lanes
    left = whole // lanes & 3
    room, partial = VECTORS_OF_SUM, left + (1 if rest > 0 else 0)
    for run in range(runs.number):
        i = runs.first + run * runs.pitch
        mark = marks.first + run * marks.pitch - i
        end, body_end = i + whole, i + body
        while i < body_end:
            g0, d0 = _product_terms(gated, dresidual, i, kept, low, marks, mark)
            g1, d1 = _product_terms(gated, dresidual, i + lanes, kept, low, marks, mark)
            g2, d2 = _product_terms(gated, dresidual, i + 2 * lanes, kept, low, marks, mark)
            g3, d3 = _product_terms(gated, dresidual, i + 3 * lanes, kept, low, marks, mark)
            sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
            products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
            i += 4 * lanes
        while i < end:
            g0, d0 = _product_terms(gated, dresidual, i, kept, low, marks, mark)
            s, p = add(s, g0), fma(g0, d0, p)
            i += lanes
        if rest > 0:
            g0, d0 = gated_part_at(gated, i, rest, kept, low)
            g0, d0 = keep(g0, marks.values, mark + i), keep(d0, marks.values, mark + i)
            if dresidual.size > 0:
                store_part(dresidual, i, rest, g0)
            s, p = add(s, g0), fma(g0, d0, p)
        room -= partial
        if room < partial:
            sums, products = widen_add(sums, s), widen_add(products, p)
            s = p = zero
            room = VECTORS_OF_SUM
    add_wide(totals.values, totals.first, widen_add(sums, s))
    add_wide(totals.values, totals.second, widen_add(products, p))


@device
def _normalized(x, residual, i, rest, factors, low):
    v = fma(subtract(load_part(x, i, rest, factors.center), factors.center), factors.scale, factors.shift)
    if residual.size > 0:
        v = add(v, load_part(residual, i, rest, factors.center))
    return maximum(low, v)


@device
def normalize_valid(x, residual, y, row, mark, factors, low, ahead):
    """y = max((x - center) * scale + shift [+ residual], floor) in a row, a run of one channel; 0 where marks are 0.

    row = (first, length), mark = (marks, the first of them); factors and the floor are in all lanes. The caches are
    told of stores `ahead` elements before, unless that is 0.
    """
    lanes, (first, length), (marks, first_mark) = lanes_of(x), row, mark
    center, scale, shift = factors
    shifted, i, end = first_mark - first, first, first + length
    head = min(elements_to_boundary(y, i), length)
    if head > 0:
        store_part(y, i, head, keep(_normalized(x, residual, i, head, factors, low), marks, shifted + i))
        i += head
    while i + lanes <= end:
        if ahead > 0:
            prefetch_for_store(y, i + ahead)
        v = fma(subtract(load(x, i), center), scale, shift)
        if residual.size > 0:
            v = add(v, load(residual, i))
        store(y, i, keep(maximum(low, v), marks, shifted + i))
        i += lanes
    if i < end:
        v = _normalized(x, residual, i, end - i, factors, low)
        store_part(y, i, end - i, keep(v, marks, shifted + i))


@device
def _differentiated(gated, i, rest, factors, low):
    own, slope, offset = factors
    g, d = gated_part_at(gated, i, rest, own, low)
    return multiply(own.scale, fma(d, slope, subtract(g, offset)))


@device
def differentiate_valid(gated, dx, row, mark, factors, low, ahead):
    """dx = scale * (g - offset - (x - center) * slope) in a row, as in `normalize_valid`; the slope is negated."""
    lanes, (first, length), (marks, first_mark) = lanes_of(gated.x), row, mark
    own, slope, offset = factors
    shifted, i, end = first_mark - first, first, first + length
    head = min(elements_to_boundary(dx, i), length)
    if head > 0:
        v = _differentiated(gated, i, head, factors, low)
        store_part(dx, i, head, keep(v, marks, shifted + i))
        i += head
    while i + lanes <= end:
        if ahead > 0:
            prefetch_for_store(dx, i + ahead)
        g, d = gated_at(gated, i, own, low)
        v = multiply(own.scale, fma(d, slope, subtract(g, offset)))
        store(dx, i, keep(v, marks, shifted + i))
        i += lanes
    if i < end:
        v = _differentiated(gated, i, end - i, factors, low)
        store_part(dx, i, end - i, keep(v, marks, shifted + i))


@device
def clear_invalid(values, first, length, marks, first_mark):
    """values[first + i] = 0 where marks[first_mark + i] is 0, for i below `length`."""
    lanes = lanes_of(values)
    zero = splat(values.dtype.type(0))
    mark, end, i = first_mark - first, first + length, first
    while i + lanes <= end:
        store(values, i, keep(load(values, i), marks, mark + i))
        i += lanes
    if i < end:
        store_part(values, i, end - i, keep(load_part(values, i, end - i, zero), marks, mark + i))
