"""Batch norm where each channel is a column: (M, C) arrays, a sample of all channels after the other.

That is (N, C) data, and (N, C, *spatial) data with the channels last in memory. A vector holds neighbouring channels.
Work is cut by shape alone: small arrays into groups of channels, each of which is summed and then normalized; others
into ranges of rows, all of which are summed before the first is normalized.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbnorm.jit import device
from nbnorm.kernels import statistics
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, stream
from nbnorm.simd.vectors import VECTOR_BYTES, add, fma, gate, lanes_of, load, maximum, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

STREAM_BYTES = 24 * 1024 * 1024  # outputs from this size on are not going to be found in the cache
BLOCK_ROWS = 32  # of one array, read at a time; a sum of so many is in the type of x
GROUP_ELEMENTS = 128 * 1024  # arrays of more are cut into ranges of rows: pieces of rows are read slowly
GROUPS = 8
ALIGNED_FROM = 4  # vectors in a row; the two parts of vectors at the ends of a shorter one cost more than they save
PARTS = 16  # ranges of rows, or a multiple of that, of at most about PART_ELEMENTS
PART_ELEMENTS, LEAST_ELEMENTS, LEAST_ROWS = 128 * 1024, 16 * 1024, 64
FINISHED = 256  # columns of a task between the passes
FACTORS = 6  # kept for each channel: center, scale, shift; - slope and offset of the gradient; shift of the sums


@lru_cache(maxsize=1024)
def plan(rows: int, channels: int, itemsize: int) -> tuple[NDArray[Any], int]:
    """Cut the work on (M, C) arrays.

    Returns the plan (the channels and the rows of a task, whether to store past the caches) and the float64 values of
    scratch memory it needs.
    """
    lanes, size = VECTOR_BYTES // itemsize, rows * channels
    width, height = channels, rows
    if size <= GROUP_ELEMENTS and channels >= GROUPS // 2 * lanes:
        width = lanes * max(channels // lanes // GROUPS, 1)
    else:
        parts = min(PARTS * -(-size // (PARTS * PART_ELEMENTS)), max(size // LEAST_ELEMENTS, 1))
        height = max(-(-rows // parts), min(rows, LEAST_ROWS))
    slots = -(-rows // height) * 2 * -(-channels // lanes) * lanes
    return np.array([width, height, rows * channels * itemsize >= STREAM_BYTES]), slots


@device
def padded(x, channels):
    """Channels, rounded up to whole vectors: the length of a row of sums in the scratch memory."""
    return -(-channels // lanes_of(x)) * lanes_of(x)


@device
def sampled_shifts(x, rows, channels, factors):
    """The last row of factors: near the mean of each column, exactly its value where that is constant."""
    lanes, zero = lanes_of(x), splat(x.dtype.type(0))
    each = splat(x.dtype.type(1 / statistics.SAMPLES))
    for c in range(0, channels, lanes):
        part = min(lanes, channels - c)
        first = load_part(x, c, part, zero)
        total = zero
        for k in range(1, statistics.SAMPLES):
            at = (k * rows >> statistics.SAMPLE_BITS) * channels
            total = add(total, subtract(load_part(x, at + c, part, zero), first))
        store_part(factors, (FACTORS - 1) * channels + c, part, fma(total, each, first))


@device
def add_parts(scratch, parts, line, c0, c1):
    """Add the sums of all ranges of rows to those of the first, in order."""
    for p in range(1, parts):
        for first in (c0, line + c0):
            total = scratch[first : first + c1 - c0]
            other = scratch[2 * p * line + first : 2 * p * line + first + c1 - c0]
            for j in range(c1 - c0):
                total[j] += other[j]


@device
def store_factors(factors, mean, inv_std, gamma, beta, c0, c1):
    """center, scale, shift of columns c0 to c1, as `statistics.factors` has them.

    This and what follows loops over slices from 0 on, without branches: LLVM turns such loops into vectors.
    """
    channels = mean.size
    as_values = factors.dtype.type
    means, inv_stds, gammas, betas = mean[c0:c1], inv_std[c0:c1], gamma[c0:c1], beta[c0:c1]
    centers = factors[c0:c1]
    scales = factors[channels + c0 : channels + c1]
    shifts = factors[2 * channels + c0 : 2 * channels + c1]
    for j in range(c1 - c0):
        center = as_values(means[j])
        scale = gammas[j] * inv_stds[j]
        centers[j] = center
        scales[j] = scale
        shifts[j] = betas[j] - (means[j] - float(center)) * scale


@device
def add_deviations(x, at, stride, rows, part, factors, c, totals, t, t2):
    """totals[t ...] += x - shift, totals[t2 ...] += (x - shift)^2, over the rows of `part` columns from c on."""
    k = load_part(factors, (FACTORS - 1) * stride + c, part, splat(x.dtype.type(0)))
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    i = at
    for _ in range(rows // 4):
        d0 = subtract(load_part(x, i, part, k), k)
        d1 = subtract(load_part(x, i + stride, part, k), k)
        d2 = subtract(load_part(x, i + 2 * stride, part, k), k)
        d3 = subtract(load_part(x, i + 3 * stride, part, k), k)
        a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
        b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
        i += 4 * stride
    for _ in range(rows % 4):
        d0 = subtract(load_part(x, i, part, k), k)
        a0, b0 = add(a0, d0), fma(d0, d0, b0)
        i += stride
    add_wide(totals, t, add(add(a0, a1), add(a2, a3)))
    add_wide(totals, t2, add(add(b0, b1), add(b2, b3)))


@device
def _gated(dy, x, y, i, part, m, a, b, low, by_output):
    """g, x - center; g is dy where the output (y, or computed anew from x) is not <= low, else 0."""
    zero = splat(x.dtype.type(0))
    d = subtract(load_part(x, i, part, m), m)
    v = load_part(y, i, part, zero) if by_output else fma(d, a, b)
    return gate(v, low, load_part(dy, i, part, zero)), d


@device
def add_products(dy, x, y, at, stride, rows, part, factors, c, floor, by_output, totals, t, t2):
    """totals[t ...] += g, totals[t2 ...] += g * (x - center), over the rows of `part` columns from c on.

    g is dy where the output (y, or computed anew from x) is not <= floor, else 0. Precision as in `spans`.
    """
    m, a, b = _kept(factors, stride, c, part)
    low = splat(floor)
    sums = products = no_sum(x)
    i = at
    for _ in range(rows // 4):
        g0, d0 = _gated(dy, x, y, i, part, m, a, b, low, by_output)
        g1, d1 = _gated(dy, x, y, i + stride, part, m, a, b, low, by_output)
        g2, d2 = _gated(dy, x, y, i + 2 * stride, part, m, a, b, low, by_output)
        g3, d3 = _gated(dy, x, y, i + 3 * stride, part, m, a, b, low, by_output)
        sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
        products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
        i += 4 * stride
    for _ in range(rows % 4):
        g0, d0 = _gated(dy, x, y, i, part, m, a, b, low, by_output)
        sums, products = widen_add(sums, g0), widen_add(products, multiply(g0, d0))
        i += stride
    add_wide(totals, t, sums)
    add_wide(totals, t2, products)


@device
def _kept(factors, channels, c, part):
    """center, scale, shift of `part` columns from c on."""
    zero = splat(factors.dtype.type(0))
    return (
        load_part(factors, c, part, zero),
        load_part(factors, channels + c, part, zero),
        load_part(factors, 2 * channels + c, part, zero),
    )


@device
def _normalize_part(x, residual, y, i, part, factors, channels, c, low):
    m, a, b = _kept(factors, channels, c, part)
    v = fma(subtract(load_part(x, i, part, m), m), a, b)
    if residual.size > 0:
        v = add(v, load_part(residual, i, part, m))
    store_part(y, i, part, maximum(low, v))


@device
def normalize(x, residual, y, at, stride, rows, width, factors, c, floor, streaming):
    """y = max((x - center) * scale + shift [+ residual], floor) over the rows of `width` columns from c on.

    Long rows are stored in whole vectors at multiples of their size. Rows of one vector or less keep their factors in
    registers, and are never streamed.
    """
    lanes, low = lanes_of(x), splat(floor)
    if width <= lanes:
        m, a, b = _kept(factors, stride, c, width)
        for row in range(rows):
            i = at + row * stride
            v = fma(subtract(load_part(x, i, width, m), m), a, b)
            if residual.size > 0:
                v = add(v, load_part(residual, i, width, m))
            store_part(y, i, width, maximum(low, v))
        return
    for row in range(rows):
        i = at + row * stride
        shift = c - i  # from an element to its column
        end = i + width
        head = min(elements_to_boundary(y, i), width) if streaming or width >= ALIGNED_FROM * lanes else 0
        if head > 0:
            _normalize_part(x, residual, y, i, head, factors, stride, c, low)
            i += head
        while i + lanes <= end:
            j = i + shift
            v = fma(subtract(load(x, i), load(factors, j)), load(factors, stride + j), load(factors, 2 * stride + j))
            if residual.size > 0:
                v = add(v, load(residual, i))
            if streaming:
                stream(y, i, maximum(low, v))
            else:
                store(y, i, maximum(low, v))
            i += lanes
        if i < end:
            _normalize_part(x, residual, y, i, end - i, factors, stride, i + shift, low)


@device
def _differentiate_part(dy, x, y, dx, dresidual, i, part, factors, channels, c, low, by_output):
    m, a, b = _kept(factors, channels, c, part)
    k, o = load_part(factors, 3 * channels + c, part, m), load_part(factors, 4 * channels + c, part, m)
    g, d = _gated(dy, x, y, i, part, m, a, b, low, by_output)
    if dresidual.size > 0:
        store_part(dresidual, i, part, g)
    if dx.size > 0:
        store_part(dx, i, part, multiply(a, fma(d, k, subtract(g, o))))


@device
def differentiate(dy, x, y, dx, dresidual, at, stride, rows, width, factors, c, floor, by_output, streaming):
    """dx = scale * (g - offset - (x - center) * slope), dresidual = g; one that is empty is not wanted.

    Over the rows of `width` columns from c on.
    """
    lanes, low = lanes_of(x), splat(floor)
    if width <= lanes:
        m, a, b = _kept(factors, stride, c, width)
        k, o = load_part(factors, 3 * stride + c, width, m), load_part(factors, 4 * stride + c, width, m)
        for row in range(rows):
            i = at + row * stride
            g, d = _gated(dy, x, y, i, width, m, a, b, low, by_output)
            if dresidual.size > 0:
                store_part(dresidual, i, width, g)
            if dx.size > 0:
                store_part(dx, i, width, multiply(a, fma(d, k, subtract(g, o))))
        return
    for row in range(rows):
        i = at + row * stride
        shift = c - i
        end = i + width
        head = min(elements_to_boundary(dx, i), width) if streaming or width >= ALIGNED_FROM * lanes else 0
        if head > 0:
            _differentiate_part(dy, x, y, dx, dresidual, i, head, factors, stride, c, low, by_output)
            i += head
        while i + lanes <= end:
            j = i + shift
            d, a = subtract(load(x, i), load(factors, j)), load(factors, stride + j)
            v = load(y, i) if by_output else fma(d, a, load(factors, 2 * stride + j))
            g = gate(v, low, load(dy, i))
            if dresidual.size > 0:
                store(dresidual, i, g)
            if dx.size > 0:
                v = multiply(a, fma(d, load(factors, 3 * stride + j), subtract(g, load(factors, 4 * stride + j))))
                if streaming:
                    stream(dx, i, v)
                else:
                    store(dx, i, v)
            i += lanes
        if i < end:
            _differentiate_part(dy, x, y, dx, dresidual, i, end - i, factors, stride, i + shift, low, by_output)
