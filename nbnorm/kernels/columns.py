"""Batch norm where each channel is a column: (M, C) arrays, a sample of all channels after the other.

That is (N, C) data, and (N, C, *spatial) data with the channels last in memory. A vector holds neighbouring channels.
Work is cut by shape alone: into groups of channels, all rows of which stay in the cache between the passes, or, where
rows are many or channels few, into ranges of rows, all of which are summed before the first is normalized.
"""

from functools import lru_cache

from nbnorm._jit import device
from nbnorm.kernels import channel
from nbnorm.kernels.rows import STREAM_BYTES
from nbnorm.simd.parts import add_wide, elements_to_boundary, gate, load_part, maximum, store_part, stream
from nbnorm.simd.vectors import VECTOR_BYTES, add, fma, lanes_of, multiply, splat, subtract

BLOCK_ROWS = 64  # rows of a sum in the type of x
GROUP_CACHE = 256 * 1024
GROUPS = 16
PART_ELEMENTS = 32 * 1024
FACTORS = 6  # kept for each channel: center, scale, shift; slope and offset of the gradient; shift of the sums


Plan = tuple[int, int, bool]


@lru_cache(maxsize=1024)
def plan(rows: int, channels: int, itemsize: int, arrays: int) -> tuple[Plan, int]:
    """Cut the work on (M, C) arrays of which `arrays` are read in both passes.

    Returns the plan (the channels and the rows of a task, whether to store past the caches) and the float64 values of
    scratch memory it needs.
    """
    lanes = VECTOR_BYTES // itemsize
    vectors = channels // lanes
    fitting = GROUP_CACHE // (rows * VECTOR_BYTES * arrays)
    width, height = channels, min(-(-max(PART_ELEMENTS // channels, 1) // BLOCK_ROWS) * BLOCK_ROWS, rows)
    if vectors >= GROUPS // 2 and fitting:
        width, height = lanes * min(max(vectors // GROUPS, 1), fitting), rows
    slots = -(-rows // height) * 2 * -(-channels // lanes) * lanes
    return (width, height, rows * channels * itemsize >= STREAM_BYTES), slots


@device
def padded(x, channels):
    """Channels, rounded up to whole vectors: the length of a row of sums in the scratch memory."""
    return -(-channels // lanes_of(x)) * lanes_of(x)


@device
def sampled_shifts(x, rows, channels, factors):
    """The last row of factors: near the mean of each column, exactly its value where that is constant."""
    row = (FACTORS - 1) * channels
    for c in range(channels):
        factors[row + c] = 0.0
    for k in range(channel.SAMPLES):
        at = k * rows // channel.SAMPLES * channels
        for c in range(channels):
            factors[row + c] += x[at + c] - x[c]
    for c in range(channels):
        factors[row + c] = x[c] + factors[row + c] / x.dtype.type(channel.SAMPLES)


@device
def add_parts(scratch, parts, line, c0, c1):
    """Add the sums of all ranges of rows to those of the first, in order."""
    for p in range(1, parts):
        for c in range(c0, c1):
            scratch[c] += scratch[2 * p * line + c]
        for c in range(line + c0, line + c1):
            scratch[c] += scratch[2 * p * line + c]


@device
def store_factors(factors, mean, inv_std, gamma, beta, c0, c1):
    """center, scale, shift of columns c0 to c1, as `channel.factors` has them."""
    channels = mean.size
    as_values = factors.dtype.type
    for c in range(c0, c1):
        center = as_values(mean[c])
        scale = gamma[c] * inv_std[c]
        factors[c] = center
        factors[channels + c] = scale
        factors[2 * channels + c] = beta[c] - (mean[c] - float(center)) * scale


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
def add_products(dy, x, y, at, stride, rows, part, factors, c, floor, by_output, dresidual, totals, t, t2):
    """totals[t ...] += g, totals[t2 ...] += g * (x - center), over the rows of `part` columns from c on.

    g is dy where the output (y, or computed anew from x) is not <= floor, else 0. It is kept in
    dresidual if that is not empty.
    """
    zero = splat(x.dtype.type(0))
    channels = factors.size // FACTORS
    m = load_part(factors, c, part, zero)
    a = load_part(factors, channels + c, part, zero)
    b = load_part(factors, 2 * channels + c, part, zero)
    low = splat(floor)
    keep = dresidual.size > 0
    s0 = s1 = s2 = s3 = p0 = p1 = p2 = p3 = zero
    for row in range(rows):
        i = at + row * stride
        d = subtract(load_part(x, i, part, m), m)
        v = load_part(y, i, part, zero) if by_output else fma(d, a, b)
        g = gate(v, low, load_part(dy, i, part, zero))
        if keep:
            store_part(dresidual, i, part, g)
        s0, s1, s2, s3 = s1, s2, s3, add(s0, g)
        p0, p1, p2, p3 = p1, p2, p3, fma(g, d, p0)
    add_wide(totals, t, add(add(s0, s1), add(s2, s3)))
    add_wide(totals, t2, add(add(p0, p1), add(p2, p3)))


@device
def normalize(x, residual, y, at, stride, rows, part, factors, c, floor, streaming):
    """y = max((x - center) * scale + shift [+ residual], floor) over the rows of `part` columns from c on."""
    zero = splat(x.dtype.type(0))
    channels = factors.size // FACTORS
    m = load_part(factors, c, part, zero)
    a = load_part(factors, channels + c, part, zero)
    b = load_part(factors, 2 * channels + c, part, zero)
    low = splat(floor)
    added = residual.size > 0
    aligned = streaming and part == lanes_of(x) and elements_to_boundary(y, at) == elements_to_boundary(y, stride) == 0
    for row in range(rows):
        i = at + row * stride
        v = fma(subtract(load_part(x, i, part, m), m), a, b)
        if added:
            v = add(v, load_part(residual, i, part, zero))
        if aligned:
            stream(y, i, maximum(low, v))
        else:
            store_part(y, i, part, maximum(low, v))


@device
def differentiate(dy, x, y, dx, at, stride, rows, part, factors, c, floor, by_output, streaming):
    """dx = scale * (g - offset - (x - center) * slope) over the rows of `part` columns from c on; g as above."""
    zero = splat(x.dtype.type(0))
    channels = factors.size // FACTORS
    m = load_part(factors, c, part, zero)
    a = load_part(factors, channels + c, part, zero)
    b = load_part(factors, 2 * channels + c, part, zero)
    k = subtract(zero, load_part(factors, 3 * channels + c, part, zero))
    o = load_part(factors, 4 * channels + c, part, zero)
    low = splat(floor)
    aligned = (
        streaming and part == lanes_of(x) and elements_to_boundary(dx, at) == elements_to_boundary(dx, stride) == 0
    )
    for row in range(rows):
        i = at + row * stride
        d = subtract(load_part(x, i, part, m), m)
        v = load_part(y, i, part, zero) if by_output else fma(d, a, b)
        g = gate(v, low, load_part(dy, i, part, zero))
        v = multiply(a, fma(d, k, subtract(g, o)))
        if aligned:
            stream(dx, i, v)
        else:
            store_part(dx, i, part, v)
