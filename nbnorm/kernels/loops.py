"""The vector loops of batch norm over rows.

Sums go over spans: `length` neighbouring elements of one channel, from index `at` on, and again every `stride`.
The elementwise passes go over runs of neighbouring channels, `length` elements each, so that what they store are whole
vectors at multiples of the vector's size, wherever channels begin: a vector may hold the end of one and the beginning
of the next. The factors of each channel lie in `table`, from index `t` on and `step` apart.
"""

from nbnorm.jit import device
from nbnorm.simd.masks import blend, load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, item, prefetch_for_store, stream
from nbnorm.simd.vectors import add, fma, gate, lanes_of, load, maximum, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

CENTER, SCALE, SHIFT, SLOPE, OFFSET, SAMPLED = range(6)  # what is kept of a channel in a table
KEPT = 8
VECTORS_OF_SUM = 6


@device
def add_deviations(x, at, stride, spans, length, shift, totals, t):
    """totals[t : t + lanes] += x - shift, the next lanes += (x - shift)^2."""
    lanes = lanes_of(x)
    k = splat(shift)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    rest = length & (lanes - 1)
    singles = length // lanes & 3
    body = length - singles * lanes - rest
    for span in range(spans):
        i = at + span * stride
        end = i + body
        while i < end:
            d0, d1 = subtract(load(x, i), k), subtract(load(x, i + lanes), k)
            d2, d3 = subtract(load(x, i + 2 * lanes), k), subtract(load(x, i + 3 * lanes), k)
            a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
            b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
            i += 4 * lanes
        if singles > 0:
            d0 = subtract(load(x, i), k)
            a0, b0 = add(a0, d0), fma(d0, d0, b0)
        if singles > 1:
            d1 = subtract(load(x, i + lanes), k)
            a1, b1 = add(a1, d1), fma(d1, d1, b1)
        if singles > 2:
            d2 = subtract(load(x, i + 2 * lanes), k)
            a2, b2 = add(a2, d2), fma(d2, d2, b2)
        if rest > 0:
            d3 = subtract(load_part(x, i + singles * lanes, rest, k), k)
            a3, b3 = add(a3, d3), fma(d3, d3, b3)
    add_wide(totals, t, add(add(a0, a1), add(a2, a3)))
    add_wide(totals, t + lanes, add(add(b0, b1), add(b2, b3)))


@device
def _gated(dy, x, y, i, m, a, b, low, by_output):
    """g, x - center of a vector; g is dy where the output (y, or computed anew from x) is not <= low, else 0."""
    d = subtract(load(x, i), m)
    v = load(y, i) if by_output else fma(d, a, b)
    return gate(v, low, load(dy, i)), d


@device
def _gated_part(dy, x, y, i, rest, m, a, b, low, by_output):
    """The same of the first lanes of a vector, and 0 in the others."""
    zero = splat(x.dtype.type(0))
    d = subtract(load_part(x, i, rest, m), m)
    v = load_part(y, i, rest, zero) if by_output else fma(d, a, b)
    return gate(v, low, load_part(dy, i, rest, zero)), d


@device
def add_products(dy, x, y, dresidual, at, stride, spans, length, factors, floor, by_output, totals, t):
    """totals[t : t + lanes] += g, the next lanes += g * (x - center); g is dy where the output is not <= floor, else 0.

    g goes to dresidual, which may be dy, unless that is empty. The output is y, or computed anew from x in the very
    operations of `normalize`. A lane adds up VECTORS_OF_SUM values in the type of x: more would make sums of a few
    thousand gradients less accurate than other libraries'.
    """
    lanes = lanes_of(x)
    m, a, b, low = splat(factors[0]), splat(factors[1]), splat(factors[2]), splat(floor)
    zero = splat(x.dtype.type(0))
    sums = products = no_sum(x)
    s = p = zero
    rest = length & (lanes - 1)
    singles = length // lanes & 3
    body = length - singles * lanes - rest
    room, partial = VECTORS_OF_SUM, singles + (1 if rest > 0 else 0)
    for span in range(spans):
        i = at + span * stride
        end = i + body
        while i < end:
            g0, d0 = _gated(dy, x, y, i, m, a, b, low, by_output)
            g1, d1 = _gated(dy, x, y, i + lanes, m, a, b, low, by_output)
            g2, d2 = _gated(dy, x, y, i + 2 * lanes, m, a, b, low, by_output)
            g3, d3 = _gated(dy, x, y, i + 3 * lanes, m, a, b, low, by_output)
            if dresidual.size > 0:
                store(dresidual, i, g0)
                store(dresidual, i + lanes, g1)
                store(dresidual, i + 2 * lanes, g2)
                store(dresidual, i + 3 * lanes, g3)
            sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
            products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
            i += 4 * lanes
        if partial > 0:
            for _ in range(singles):
                g0, d0 = _gated(dy, x, y, i, m, a, b, low, by_output)
                if dresidual.size > 0:
                    store(dresidual, i, g0)
                s, p = add(s, g0), fma(g0, d0, p)
                i += lanes
            if rest > 0:
                g0, d0 = _gated_part(dy, x, y, i, rest, m, a, b, low, by_output)
                if dresidual.size > 0:
                    store_part(dresidual, i, rest, g0)
                s, p = add(s, g0), fma(g0, d0, p)
            room -= partial
            if room < partial:
                sums, products = widen_add(sums, s), widen_add(products, p)
                s = p = zero
                room = VECTORS_OF_SUM
    add_wide(totals, t, widen_add(sums, s))
    add_wide(totals, t + lanes, widen_add(products, p))


@device
def _kept(table, t):
    """center, scale, shift of a channel, in all lanes."""
    return splat(item(table, t + CENTER)), splat(item(table, t + SCALE)), splat(item(table, t + SHIFT))


@device
def _normalize_part(x, residual, y, i, rest, m, a, b, low):
    v = fma(subtract(load_part(x, i, rest, m), m), a, b)
    if residual.size > 0:
        v = add(v, load_part(residual, i, rest, m))
    store_part(y, i, rest, maximum(low, v))


@device
def _normalize_full(x, residual, y, i, m, a, b, low, streaming):
    v = fma(subtract(load(x, i), m), a, b)
    if residual.size > 0:
        v = add(v, load(residual, i))
    if streaming:
        stream(y, i, maximum(low, v))
    else:
        store(y, i, maximum(low, v))


@device
def normalize(x, residual, y, at, stride, runs, length, channels, table, t, step, floor, ahead, streaming):
    """y = max((x - center) * scale + shift [+ residual], floor); a floor of NaN is none.

    The last run comes first: the sums went forward, and left the end of the channels in the cache.
    """
    lanes = lanes_of(x)
    low = splat(floor)
    wide = length >= lanes
    streaming = streaming and wide
    whole = channels * length
    distance = min(ahead, whole)
    large = streaming or ahead > 0
    for run in range(runs - 1, -1, -1):
        i = at + run * stride
        end = i + length
        last = i + whole - distance
        leap = distance - (stride + whole if run > 0 else 0)
        m, a, b = _kept(table, t)
        if wide:
            rest = min(elements_to_boundary(y, i), length)
            if rest > 0:
                _normalize_part(x, residual, y, i, rest, m, a, b, low)
                i += rest
        for c in range(1, channels + 1):
            while i + lanes <= end and large:
                if not streaming:
                    prefetch_for_store(y, i + (distance if i < last else leap))
                _normalize_full(x, residual, y, i, m, a, b, low, streaming)
                i += lanes
            while i + lanes <= end:
                _normalize_full(x, residual, y, i, m, a, b, low, False)
                i += lanes
            rest = end - i
            if c == channels:
                if rest > 0:
                    _normalize_part(x, residual, y, i, rest, m, a, b, low)
            else:
                m2, a2, b2 = _kept(table, t + c * step)
                if rest > 0 and wide:
                    own = blend(rest, m, m2), blend(rest, a, a2), blend(rest, b, b2)
                    _normalize_full(x, residual, y, i, own[0], own[1], own[2], low, streaming)
                    i += lanes
                elif rest > 0:
                    _normalize_part(x, residual, y, i, rest, m, a, b, low)
                    i = end
                m, a, b = m2, a2, b2
            end += length


@device
def _kept_of_gradient(table, t):
    """center, scale, shift, - slope, offset of a channel, in all lanes."""
    m, a, b = _kept(table, t)
    return m, a, b, splat(-item(table, t + SLOPE)), splat(item(table, t + OFFSET))


@device
def _differentiate_part(dy, x, y, dx, i, rest, kept, low, by_output):
    m, a, b, k, c = kept
    g, d = _gated_part(dy, x, y, i, rest, m, a, b, low, by_output)
    store_part(dx, i, rest, multiply(a, fma(d, k, subtract(g, c))))


@device
def _differentiate_full(dy, x, y, dx, i, kept, low, by_output, streaming):
    m, a, b, k, c = kept
    g, d = _gated(dy, x, y, i, m, a, b, low, by_output)
    v = multiply(a, fma(d, k, subtract(g, c)))
    if streaming:
        stream(dx, i, v)
    else:
        store(dx, i, v)


@device
def differentiate(dy, x, y, dx, at, stride, runs, length, channels, table, t, step, floor, by_output, ahead, streaming):
    """dx = scale * (g - offset - (x - center) * slope); g is dy where the output is not <= floor, else 0.

    The output is y, or computed anew from x. The last run comes first, as in `normalize`.
    """
    lanes = lanes_of(x)
    low = splat(floor)
    wide = length >= lanes
    streaming = streaming and wide
    whole = channels * length
    distance = min(ahead, whole)
    large = streaming or ahead > 0
    for run in range(runs - 1, -1, -1):
        i = at + run * stride
        end = i + length
        last = i + whole - distance
        leap = distance - (stride + whole if run > 0 else 0)
        kept = _kept_of_gradient(table, t)
        if wide:
            rest = min(elements_to_boundary(dx, i), length)
            if rest > 0:
                _differentiate_part(dy, x, y, dx, i, rest, kept, low, by_output)
                i += rest
        for c in range(1, channels + 1):
            while i + lanes <= end and large:
                if not streaming:
                    prefetch_for_store(dx, i + (distance if i < last else leap))
                _differentiate_full(dy, x, y, dx, i, kept, low, by_output, streaming)
                i += lanes
            while i + lanes <= end:
                _differentiate_full(dy, x, y, dx, i, kept, low, by_output, False)
                i += lanes
            rest = end - i
            if c == channels:
                if rest > 0:
                    _differentiate_part(dy, x, y, dx, i, rest, kept, low, by_output)
            else:
                after = _kept_of_gradient(table, t + c * step)
                if rest > 0 and wide:
                    own = (
                        blend(rest, kept[0], after[0]),
                        blend(rest, kept[1], after[1]),
                        blend(rest, kept[2], after[2]),
                        blend(rest, kept[3], after[3]),
                        blend(rest, kept[4], after[4]),
                    )
                    _differentiate_full(dy, x, y, dx, i, own, low, by_output, streaming)
                    i += lanes
                elif rest > 0:
                    _differentiate_part(dy, x, y, dx, i, rest, kept, low, by_output)
                    i = end
                kept = after
            end += length
