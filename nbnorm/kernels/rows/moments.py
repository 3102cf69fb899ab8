"""Mean and variance of rows of neighbouring values, and the factors that normalize them."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.kernels.runs import Channel
from nbnorm.kernels.statistics import in_two_passes, is_trusted
from nbnorm.simd.masks import load_part
from nbnorm.simd.memory import item
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, fma, lanes_of, load, splat, subtract
from nbnorm.simd.widening import no_sum, widen_add

__all__ = ["RowFactors", "in_all_lanes", "moments", "row_factors"]

# Vectors of a row whose sum is in the type of x, 16 for each of 4 accumulators: more costs float32 digits, fewer spend
# the time on adding up in float64. As in `batch_norm.channels_first.cut`, found with `benchmarks.peers batch-norm`.
BLOCK_VECTORS = 64


class RowFactors(NamedTuple):
    """x_hat = (x - center) * scale + shift: of one row, or the same in all lanes of vectors."""

    center: Any
    scale: Any
    shift: Any


@device
def in_all_lanes(factors):
    """Factors of a row in all lanes of vectors."""
    return RowFactors(splat(factors.center), splat(factors.scale), splat(factors.shift))


@device
def row_factors(x, mean, inv_std):
    """Factors of a row, in the type of x: the center is the mean rounded; what rounding took away is in the shift."""
    as_values = x.dtype.type
    center = as_values(mean)
    return RowFactors(center, as_values(inv_std), as_values((float(center) - mean) * inv_std))


@device
def _sampled_shift(x, first, length):
    """Mean of four vectors spread over the row, near its mean; exactly the value of a constant row."""
    lanes, start = lanes_of(x), item(x, first)
    k = splat(start)
    if length < lanes:
        total = subtract(load_part(x, first, length, k), k)
        return start + x.dtype.type(sum_lanes(total) / length)
    leap = (length - lanes) // 3
    total = add(subtract(load(x, first), k), subtract(load(x, first + leap), k))
    other = add(subtract(load(x, first + 2 * leap), k), subtract(load(x, first + length - lanes), k))
    return start + x.dtype.type(sum_lanes(add(total, other)) / (4 * lanes))


@device
def _sums(x, first, length, shift):
    """Sums of x - shift and of its square, in float64."""
    lanes, k, zero = lanes_of(x), splat(shift), splat(x.dtype.type(0))
    sums = squares = no_sum(x)
    i, end = first, first + length
    while i + 4 * lanes <= end:
        stop = min(i + BLOCK_VECTORS * lanes, end)
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
        while i + 4 * lanes <= stop:
            d0, d1 = subtract(load(x, i), k), subtract(load(x, i + lanes), k)
            d2, d3 = subtract(load(x, i + 2 * lanes), k), subtract(load(x, i + 3 * lanes), k)
            a0, a1, a2, a3 = add(a0, d0), add(a1, d1), add(a2, d2), add(a3, d3)
            b0, b1, b2, b3 = fma(d0, d0, b0), fma(d1, d1, b1), fma(d2, d2, b2), fma(d3, d3, b3)
            i += 4 * lanes
        sums = widen_add(sums, add(add(a0, a1), add(a2, a3)))
        squares = widen_add(squares, add(add(b0, b1), add(b2, b3)))
    a0 = b0 = zero
    while i + lanes <= end:
        d0 = subtract(load(x, i), k)
        a0, b0 = add(a0, d0), fma(d0, d0, b0)
        i += lanes
    if i < end:
        d0 = subtract(load_part(x, i, end - i, k), k)
        a0, b0 = add(a0, d0), fma(d0, d0, b0)
    return sum_lanes(widen_add(sums, a0)), sum_lanes(widen_add(squares, b0))


@device
def _mean_square(x, first, length):
    """In float64, whatever the values."""
    total = 0.0
    for i in range(first, first + length):
        total += np.float64(x[i]) * np.float64(x[i])
    return total / length


@device
def moments(x, rows, length, row, centered):
    """Mean and biased variance of a row; of a norm that is not centered 0 and the mean of squares.

    Where the first shift was further than a standard deviation from the mean, the sums are taken again from where they
    say that it is. Where that cannot be trusted either (float32 overflowed or vanished, a NaN came), all is computed in
    float64.
    """
    first, each = row * length, 1.0 / length
    shift = _sampled_shift(x, first, length) if centered else x.dtype.type(0)
    for _ in range(2):
        total, squares = _sums(x, first, length, shift)
        if total == 0.0 and squares == 0.0:
            return float(shift), 0.0
        offset = total * each if centered else 0.0
        var = squares * each - offset * offset
        if is_trusted(x, offset, var):
            return shift + offset, var
        if not squares < np.inf:
            break
        shift = x.dtype.type(shift + offset)
    if centered:
        return in_two_passes(x, Channel(1, rows, length, row))
    return 0.0, _mean_square(x, first, length)
