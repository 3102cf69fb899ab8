"""The vector loops of batch norm over spans: `length` neighbouring elements of one channel, from index `at` on."""

from nbnorm._jit import device
from nbnorm.simd.parts import add_wide, elements_to_boundary, gate, load_part, maximum, store_part, stream
from nbnorm.simd.vectors import add, fma, lanes_of, load, multiply, splat, store, subtract


@device
def add_deviations(x, at, stride, spans, length, shift, totals, t):
    """totals[t : t + lanes] += x - shift, the next lanes += (x - shift)^2, over `spans` spans `stride` apart."""
    lanes = lanes_of(x)
    k = splat(shift)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    for span in range(spans):
        i = at + span * stride
        end = i + length
        while i + 4 * lanes <= end:
            d0, d1 = subtract(load(x, i), k), subtract(load(x, i + lanes), k)
            d2, d3 = subtract(load(x, i + 2 * lanes), k), subtract(load(x, i + 3 * lanes), k)
            a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
            b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
            i += 4 * lanes
        while i < end:
            rest = min(end - i, lanes)
            d0 = subtract(load_part(x, i, rest, k), k)
            a0, a1, a2, a3 = a1, a2, a3, add(a0, d0)
            b0, b1, b2, b3 = b1, b2, b3, fma(d0, d0, b0)
            i += rest
    add_wide(totals, t, add(add(a0, a1), add(a2, a3)))
    add_wide(totals, t + lanes, add(add(b0, b1), add(b2, b3)))


@device
def add_products(dy, x, at, stride, spans, length, factors, floor, totals, t):
    """totals[t : t + lanes] += g, the next lanes += g * (x - center); g is dy where the output is not <= floor, else 0.

    The output is computed anew from x, in the very operations of `normalize`.
    """
    lanes = lanes_of(x)
    m, a, b, low = splat(factors[0]), splat(factors[1]), splat(factors[2]), splat(floor)
    zero = splat(x.dtype.type(0))
    s0 = s1 = s2 = s3 = p0 = p1 = p2 = p3 = zero
    for span in range(spans):
        i = at + span * stride
        end = i + length
        while i + 4 * lanes <= end:
            d0, d1 = subtract(load(x, i), m), subtract(load(x, i + lanes), m)
            d2, d3 = subtract(load(x, i + 2 * lanes), m), subtract(load(x, i + 3 * lanes), m)
            g0, g1 = gate(fma(d0, a, b), low, load(dy, i)), gate(fma(d1, a, b), low, load(dy, i + lanes))
            g2 = gate(fma(d2, a, b), low, load(dy, i + 2 * lanes))
            g3 = gate(fma(d3, a, b), low, load(dy, i + 3 * lanes))
            s0, s1, s2, s3 = add(s0, g0), add(s1, g1), add(s2, g2), add(s3, g3)
            p0, p1, p2, p3 = fma(g0, d0, p0), fma(g1, d1, p1), fma(g2, d2, p2), fma(g3, d3, p3)
            i += 4 * lanes
        while i < end:
            rest = min(end - i, lanes)
            d0 = subtract(load_part(x, i, rest, m), m)
            g0 = gate(fma(d0, a, b), low, load_part(dy, i, rest, zero))
            s0, s1, s2, s3 = s1, s2, s3, add(s0, g0)
            p0, p1, p2, p3 = p1, p2, p3, fma(g0, d0, p0)
            i += rest
    add_wide(totals, t, add(add(s0, s1), add(s2, s3)))
    add_wide(totals, t + lanes, add(add(p0, p1), add(p2, p3)))


@device
def add_products_by_output(dy, x, y, at, stride, spans, length, factors, floor, dresidual, totals, t):
    """The same with the output given as y; g is stored in dresidual where that is not empty."""
    lanes = lanes_of(x)
    m, low, zero = splat(factors[0]), splat(floor), splat(x.dtype.type(0))
    keep = dresidual.size > 0
    s0 = s1 = s2 = s3 = p0 = p1 = p2 = p3 = zero
    for span in range(spans):
        i = at + span * stride
        end = i + length
        while i < end:
            rest = min(end - i, lanes)
            d = subtract(load_part(x, i, rest, m), m)
            g = gate(load_part(y, i, rest, zero), low, load_part(dy, i, rest, zero))
            if keep:
                store_part(dresidual, i, rest, g)
            s0, s1, s2, s3 = s1, s2, s3, add(s0, g)
            p0, p1, p2, p3 = p1, p2, p3, fma(g, d, p0)
            i += rest
    add_wide(totals, t, add(add(s0, s1), add(s2, s3)))
    add_wide(totals, t + lanes, add(add(p0, p1), add(p2, p3)))


@device
def normalize(x, residual, y, at, stride, spans, length, factors, floor, streaming):
    """y = max((x - center) * scale + shift [+ residual], floor); a floor of NaN is none.

    The last span comes first: the sums went forward, and left the end of the channel in the cache.
    """
    lanes = lanes_of(x)
    m, a, b, low = splat(factors[0]), splat(factors[1]), splat(factors[2]), splat(floor)
    zero = splat(x.dtype.type(0))
    added = residual.size > 0
    for span in range(spans - 1, -1, -1):
        i = at + span * stride
        end = i + length
        if streaming:
            rest = min(elements_to_boundary(y, i), length)
            if rest > 0:
                v = fma(subtract(load_part(x, i, rest, m), m), a, b)
                if added:
                    v = add(v, load_part(residual, i, rest, zero))
                store_part(y, i, rest, maximum(low, v))
                i += rest
            if added:
                while i + lanes <= end:
                    v = add(fma(subtract(load(x, i), m), a, b), load(residual, i))
                    stream(y, i, maximum(low, v))
                    i += lanes
            else:
                while i + lanes <= end:
                    stream(y, i, maximum(low, fma(subtract(load(x, i), m), a, b)))
                    i += lanes
        elif added:
            while i + lanes <= end:
                v = add(fma(subtract(load(x, i), m), a, b), load(residual, i))
                store(y, i, maximum(low, v))
                i += lanes
        else:
            while i + lanes <= end:
                store(y, i, maximum(low, fma(subtract(load(x, i), m), a, b)))
                i += lanes
        if i < end:
            rest = end - i
            v = fma(subtract(load_part(x, i, rest, m), m), a, b)
            if added:
                v = add(v, load_part(residual, i, rest, zero))
            store_part(y, i, rest, maximum(low, v))


@device
def differentiate(dy, x, y, dx, at, stride, spans, length, factors, floor, slope, offset, by_output, streaming):
    """dx = scale * (g - offset - (x - center) * slope); g is dy where the output is not <= floor, else 0.

    The output is y, or computed anew from x. The last span comes first, as in `normalize`.
    """
    lanes = lanes_of(x)
    m, a, b, low = splat(factors[0]), splat(factors[1]), splat(factors[2]), splat(floor)
    k, c, zero = splat(-slope), splat(offset), splat(x.dtype.type(0))
    for span in range(spans - 1, -1, -1):
        i = at + span * stride
        end = i + length
        if streaming:
            rest = min(elements_to_boundary(dx, i), length)
            if rest > 0:
                d = subtract(load_part(x, i, rest, m), m)
                v = load_part(y, i, rest, zero) if by_output else fma(d, a, b)
                g = gate(v, low, load_part(dy, i, rest, zero))
                store_part(dx, i, rest, multiply(a, fma(d, k, subtract(g, c))))
                i += rest
            while i + lanes <= end:
                d = subtract(load(x, i), m)
                v = load(y, i) if by_output else fma(d, a, b)
                stream(dx, i, multiply(a, fma(d, k, subtract(gate(v, low, load(dy, i)), c))))
                i += lanes
        elif by_output:
            while i + lanes <= end:
                d = subtract(load(x, i), m)
                store(dx, i, multiply(a, fma(d, k, subtract(gate(load(y, i), low, load(dy, i)), c))))
                i += lanes
        else:
            while i + lanes <= end:
                d = subtract(load(x, i), m)
                store(dx, i, multiply(a, fma(d, k, subtract(gate(fma(d, a, b), low, load(dy, i)), c))))
                i += lanes
        if i < end:
            rest = end - i
            d = subtract(load_part(x, i, rest, m), m)
            v = load_part(y, i, rest, zero) if by_output else fma(d, a, b)
            g = gate(v, low, load_part(dy, i, rest, zero))
            store_part(dx, i, rest, multiply(a, fma(d, k, subtract(g, c))))
