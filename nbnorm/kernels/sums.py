"""Sums over the runs of one channel, a vector at a time: of deviations, and of gradients times deviations."""

from nbnorm.jit import device
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.vectors import add, fma, gate, lanes_of, load, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

__all__ = ["add_deviations", "add_products", "gated_at", "gated_part_at", "in_lanes"]

# Values that a lane adds up in the type of x: more would make sums of a few thousand gradients less accurate than other
# libraries' (a test holds them against PyTorch's), fewer would spend the time on widening.
VECTORS_OF_SUM = 6


@device
def in_lanes(factors):
    """Factors in all lanes of vectors."""
    return Factors(splat(factors.center), splat(factors.scale), splat(factors.shift))


@device
def add_deviations(x, runs, shift, totals):
    """Add x - shift to the first totals, and its square to the second."""
    lanes = lanes_of(x)
    k = splat(shift)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    rest = runs.length & (lanes - 1)
    singles = runs.length // lanes & 3
    body = runs.length - singles * lanes - rest
    for run in range(runs.number):
        i = runs.first + run * runs.pitch
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
    add_wide(totals.values, totals.first, add(add(a0, a1), add(a2, a3)))
    add_wide(totals.values, totals.second, add(add(b0, b1), add(b2, b3)))


@device
def gated_at(gated, i, factors, low):
    """g and x - center of a vector."""
    d = subtract(load(gated.x, i), factors.center)
    v = load(gated.y, i) if gated.by_output else fma(d, factors.scale, factors.shift)
    return gate(v, low, load(gated.dy, i)), d


@device
def gated_part_at(gated, i, rest, factors, low):
    """The same of the first lanes of a vector, and 0 in the others."""
    zero = splat(gated.x.dtype.type(0))
    d = subtract(load_part(gated.x, i, rest, factors.center), factors.center)
    v = load_part(gated.y, i, rest, zero) if gated.by_output else fma(d, factors.scale, factors.shift)
    return gate(v, low, load_part(gated.dy, i, rest, zero)), d


@device
def add_products(gated, dresidual, runs, factors, totals):
    """Add g, the gradient behind the activation, to the first totals, and g * (x - center) to the second.

    g goes to dresidual, which may be dy, unless that is empty. A lane adds up VECTORS_OF_SUM values in the type of x.
    """
    lanes, kept, low = lanes_of(gated.x), in_lanes(factors), splat(gated.floor)
    zero = splat(gated.x.dtype.type(0))
    sums = products = no_sum(gated.x)
    s = p = zero
    rest = runs.length & (lanes - 1)
    singles = runs.length // lanes & 3
    body = runs.length - singles * lanes - rest
    room, partial = VECTORS_OF_SUM, singles + (1 if rest > 0 else 0)
    for run in range(runs.number):
        i = runs.first + run * runs.pitch
        end = i + body
        while i < end:
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
        if partial > 0:
            for _ in range(singles):
                g0, d0 = gated_at(gated, i, kept, low)
                if dresidual.size > 0:
                    store(dresidual, i, g0)
                s, p = add(s, g0), fma(g0, d0, p)
                i += lanes
            if rest > 0:
                g0, d0 = gated_part_at(gated, i, rest, kept, low)
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
