"""What is asked of a flat gradient vector as a whole: how long it is, and whether all of it is finite.

In NumPy: `np.sum(grads.astype(float) ** 2)` and `np.isfinite(grads).all()`. Both read the vector once and write nothing
of its size; the norm is summed in float64 and in an order that depends on the size alone.
"""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import borrowed
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, fma, lanes_of, load, splat

__all__ = ["all_finite", "sum_of_squares"]

# Elements of a partial sum: fewer take less time than a thread needs to begin them, more leave threads idle for the few
# ten thousand parameters of a small net. Found with `benchmarks.peers training-step`, 4-core Xeon, AVX-512, 2026-11.
CHUNK = 8192
# Running sums side by side: 8 vectors of 8 float64, enough to hide how long an addition takes. More do not fit the
# registers. The number decides the order of the sum: another one gives other bits.
LANES = 64


@kernel
def all_finite(values):
    """Whether no value is infinite or a NaN: zero times them gives zeros, whose sum is none otherwise."""
    values = borrowed(values)
    chunks = -(-values.size // CHUNK)
    sums = np.zeros(chunks, values.dtype)
    for k in prange(chunks):
        sums[k] = _sum_of_zeros(values, k * CHUNK, min((k + 1) * CHUNK, values.size))
    total = 0.0
    for k in range(chunks):
        total += sums[k]
    return total == 0.0


@device
def _sum_of_zeros(values, begin, end):
    lanes = lanes_of(values)
    zero = splat(values.dtype.type(0))
    a = b = c = d = zero
    i = begin
    while i + 4 * lanes <= end:
        a = fma(load(values, i), zero, a)
        b = fma(load(values, i + lanes), zero, b)
        c = fma(load(values, i + 2 * lanes), zero, c)
        d = fma(load(values, i + 3 * lanes), zero, d)
        i += 4 * lanes
    while i < end:
        a = fma(load_between(values, i, 0, end - i), zero, a)
        i += lanes
    return sum_lanes(add(add(a, b), add(c, d)))


@kernel
def sum_of_squares(grads):
    """Sum of g^2 in float64: LANES sums side by side in each chunk, added in a fixed order.

    The lanes are in memory so that the loop over them is elementwise: LLVM vectorizes it without reordering a sum.
    """
    chunks = -(-grads.size // CHUNK)
    sums = np.zeros((chunks, LANES))
    for k in prange(chunks):
        chunk, lanes = grads[k * CHUNK : min((k + 1) * CHUNK, grads.size)], sums[k]
        whole = chunk.size // LANES
        rows = chunk[: whole * LANES].reshape(whole, LANES)
        for i in range(whole):
            row = rows[i]
            for j in range(LANES):
                lanes[j] += np.float64(row[j]) * np.float64(row[j])
        rest = chunk[whole * LANES :]
        for j in range(rest.size):
            lanes[j] += np.float64(rest[j]) * np.float64(rest[j])
        for i in range(8, LANES, 8):
            for j in range(8):
                lanes[j] += lanes[i + j]
    total = 0.0
    for k in range(chunks):
        for j in range(8):
            total += sums[k, j]
    return total
