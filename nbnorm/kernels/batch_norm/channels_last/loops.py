"""The vector loops of batch norm over columns: a vector holds neighbouring channels, and goes down the rows of them.

`Runs` are rows here: `length` neighbouring columns, each row `pitch` (all channels) after the one before.
"""

from nbnorm.jit import device
from nbnorm.kernels import statistics
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, stream
from nbnorm.simd.vectors import add, fma, gate, lanes_of, load, maximum, multiply, splat, store, subtract
from nbnorm.simd.widening import add_wide, no_sum, widen_add

__all__ = [
    "FACTORS", "add_deviations", "add_products", "differentiate", "kept_columns", "normalize", "sampled_shifts",
    "store_factors",
]  # fmt: skip

FACTORS = 6  # rows (of all channels) of what is kept: center, scale, shift; - slope, offset; the shift of the sums
CENTER, SCALE, SHIFT, SLOPE, OFFSET, SAMPLED = range(FACTORS)
# Vectors of a row from which on they are stored at multiples of their size: the two parts of vectors at the ends of a
# shorter row cost more than they save.
ALIGNED_FROM = 4


@device
def row_of(factors, which, channels, c0, c1):
    """One of the rows of factors, from column c0 up to c1."""
    return factors[which * channels + c0 : which * channels + c1]


@device
def sampled_shifts(x, rows, channels, factors):
    """Overwrite the shifts of the sums: near the mean of each column, exactly its value where that is constant."""
    lanes = lanes_of(x)
    for c in range(0, channels, lanes):
        width = min(lanes, channels - c)
        shift = statistics.sampled_shifts(x, rows, channels, c, width)
        store_part(factors, SAMPLED * channels + c, width, shift)


@device
def store_factors(factors, mean, inv_std, affine, c0, c1):
    """center, scale, shift of columns c0 to c1, as `statistics.factors` has them.

    This and what follows loops over slices from 0 on, without branches: LLVM turns such loops into vectors.
    """
    channels = mean.size
    as_values = factors.dtype.type
    means, inv_stds, gammas, betas = mean[c0:c1], inv_std[c0:c1], affine[0][c0:c1], affine[1][c0:c1]
    centers, scales = row_of(factors, CENTER, channels, c0, c1), row_of(factors, SCALE, channels, c0, c1)
    shifts = row_of(factors, SHIFT, channels, c0, c1)
    for j in range(c1 - c0):
        center = as_values(means[j])
        scale = gammas[j] * inv_stds[j]
        centers[j] = center
        scales[j] = scale
        shifts[j] = betas[j] - (means[j] - float(center)) * scale


@device
def add_deviations(x, runs, factors, c, totals):
    """Add x - shift to the first totals, and its square to the second, over the rows of at most a vector from c on."""
    first, pitch, count, width = runs
    k = load_part(factors, SAMPLED * pitch + c, width, splat(x.dtype.type(0)))
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(x.dtype.type(0))
    i = first
    for _ in range(count // 4):
        d0 = subtract(load_part(x, i, width, k), k)
        d1 = subtract(load_part(x, i + pitch, width, k), k)
        d2 = subtract(load_part(x, i + 2 * pitch, width, k), k)
        d3 = subtract(load_part(x, i + 3 * pitch, width, k), k)
        a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
        b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
        i += 4 * pitch
    for _ in range(count % 4):
        d0 = subtract(load_part(x, i, width, k), k)
        a0, b0 = add(a0, d0), fma(d0, d0, b0)
        i += pitch
    add_wide(totals.values, totals.first, add(add(a0, a1), add(a2, a3)))
    add_wide(totals.values, totals.second, add(add(b0, b1), add(b2, b3)))


@device
def kept_columns(factors, channels, c, width):
    """center, scale, shift of `width` columns from c on."""
    zero = splat(factors.dtype.type(0))
    return statistics.Factors(
        load_part(factors, CENTER * channels + c, width, zero),
        load_part(factors, SCALE * channels + c, width, zero),
        load_part(factors, SHIFT * channels + c, width, zero),
    )


@device
def _gated(gated, i, width, kept, low):
    """g and x - center of at most a vector."""
    zero = splat(gated.x.dtype.type(0))
    d = subtract(load_part(gated.x, i, width, kept.center), kept.center)
    v = load_part(gated.y, i, width, zero) if gated.by_output else fma(d, kept.scale, kept.shift)
    return gate(v, low, load_part(gated.dy, i, width, zero)), d


@device
def add_products(gated, runs, factors, c, totals):
    """Add g to the first totals, and g * (x - center) to the second, over the rows of at most a vector from c on.

    Precision as in `sums.add_products`.
    """
    first, pitch, count, width = runs
    kept, low = kept_columns(factors, pitch, c, width), splat(gated.floor)
    sums = products = no_sum(gated.x)
    i = first
    for _ in range(count // 4):
        g0, d0 = _gated(gated, i, width, kept, low)
        g1, d1 = _gated(gated, i + pitch, width, kept, low)
        g2, d2 = _gated(gated, i + 2 * pitch, width, kept, low)
        g3, d3 = _gated(gated, i + 3 * pitch, width, kept, low)
        sums = widen_add(sums, add(add(g0, g1), add(g2, g3)))
        products = widen_add(products, fma(g3, d3, fma(g2, d2, fma(g1, d1, multiply(g0, d0)))))
        i += 4 * pitch
    for _ in range(count % 4):
        g0, d0 = _gated(gated, i, width, kept, low)
        sums, products = widen_add(sums, g0), widen_add(products, multiply(g0, d0))
        i += pitch
    add_wide(totals.values, totals.first, sums)
    add_wide(totals.values, totals.second, products)


@device
def _normalize_part(x, residual, y, i, width, kept, low):
    v = fma(subtract(load_part(x, i, width, kept.center), kept.center), kept.scale, kept.shift)
    if residual.size > 0:
        v = add(v, load_part(residual, i, width, kept.center))
    store_part(y, i, width, maximum(low, v))


@device
def normalize(x, residual, y, runs, factors, c, floor, streaming):
    """y = max((x - center) * scale + shift [+ residual], floor) over the rows of columns from c on.

    Long rows are stored in whole vectors at multiples of their size. Rows of one vector or less keep their factors in
    registers, and are never streamed.
    """
    first, pitch, count, width = runs
    lanes, low = lanes_of(x), splat(floor)
    if width <= lanes:
        kept = kept_columns(factors, pitch, c, width)
        for row in range(count):
            _normalize_part(x, residual, y, first + row * pitch, width, kept, low)
        return
    for row in range(count):
        i = first + row * pitch
        shift = c - i  # from an element to its column
        end = i + width
        head = min(elements_to_boundary(y, i), width) if streaming or width >= ALIGNED_FROM * lanes else 0
        if head > 0:
            _normalize_part(x, residual, y, i, head, kept_columns(factors, pitch, c, head), low)
            i += head
        while i + lanes <= end:
            j = i + shift
            v = fma(subtract(load(x, i), load(factors, j)), load(factors, pitch + j), load(factors, 2 * pitch + j))
            if residual.size > 0:
                v = add(v, load(residual, i))
            if streaming:
                stream(y, i, maximum(low, v))
            else:
                store(y, i, maximum(low, v))
            i += lanes
        if i < end:
            _normalize_part(x, residual, y, i, end - i, kept_columns(factors, pitch, i + shift, end - i), low)


@device
def _differentiate_part(gated, dx, dresidual, i, width, factors, channels, c, low):
    kept = kept_columns(factors, channels, c, width)
    k = load_part(factors, SLOPE * channels + c, width, kept.center)
    o = load_part(factors, OFFSET * channels + c, width, kept.center)
    g, d = _gated(gated, i, width, kept, low)
    if dresidual.size > 0:
        store_part(dresidual, i, width, g)
    if dx.size > 0:
        store_part(dx, i, width, multiply(kept.scale, fma(d, k, subtract(g, o))))


@device
def differentiate(gated, dx, dresidual, runs, factors, c, streaming):
    """dx = scale * (g - offset - (x - center) * slope), dresidual = g; one that is empty is not wanted.

    Over the rows of columns from c on.
    """
    first, pitch, count, width = runs
    lanes, low = lanes_of(gated.x), splat(gated.floor)
    if width <= lanes:
        kept = kept_columns(factors, pitch, c, width)
        k = load_part(factors, SLOPE * pitch + c, width, kept.center)
        o = load_part(factors, OFFSET * pitch + c, width, kept.center)
        for row in range(count):
            i = first + row * pitch
            g, d = _gated(gated, i, width, kept, low)
            if dresidual.size > 0:
                store_part(dresidual, i, width, g)
            if dx.size > 0:
                store_part(dx, i, width, multiply(kept.scale, fma(d, k, subtract(g, o))))
        return
    for row in range(count):
        i = first + row * pitch
        shift = c - i
        end = i + width
        head = min(elements_to_boundary(dx, i), width) if streaming or width >= ALIGNED_FROM * lanes else 0
        if head > 0:
            _differentiate_part(gated, dx, dresidual, i, head, factors, pitch, c, low)
            i += head
        while i + lanes <= end:
            _differentiate_full(gated, dx, dresidual, i, factors, pitch, i + shift, low, streaming)
            i += lanes
        if i < end:
            _differentiate_part(gated, dx, dresidual, i, end - i, factors, pitch, i + shift, low)


@device
def _differentiate_full(gated, dx, dresidual, i, factors, channels, c, low, streaming):
    d, scale = subtract(load(gated.x, i), load(factors, c)), load(factors, SCALE * channels + c)
    v = load(gated.y, i) if gated.by_output else fma(d, scale, load(factors, SHIFT * channels + c))
    g = gate(v, low, load(gated.dy, i))
    if dresidual.size > 0:
        store(dresidual, i, g)
    if dx.size > 0:
        offset = subtract(g, load(factors, OFFSET * channels + c))
        v = multiply(scale, fma(d, load(factors, SLOPE * channels + c), offset))
        if streaming:
            stream(dx, i, v)
        else:
            store(dx, i, v)
