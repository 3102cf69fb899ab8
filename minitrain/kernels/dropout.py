"""Dropout with a counter-based generator: the bits of element i are a hash of (stream, i) and need no state.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) started at
a stream of its own for each call. Any thread can draw any element, so the mask does not depend on the thread count,
and backward draws it again instead of reading it from memory. In NumPy, y = x * (draws(size) >= p) / (1 - p).
"""

import numpy as np

from nbnorm.jit import device, kernel, prange

# Elements of a task: fewer take less time than a thread needs to begin them, more leave threads idle on small arrays.
# Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
BLOCK = 8192
WEYL = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
# The multipliers of SplitMix64's output function: odd, found by its authors' search for the best mixing of bits.
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@device
def _mix(z):
    """Scramble 64 bits: the output function of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def dropout(x, key, call, p, y):
    """y = x / (1 - p) with probability 1 - p, else 0 x; shapes (n,).

    `key` (1,) and `call` (2,) uint64 choose the mask: the same two give the same mask for x in forward and dy in
    backward. call = (number of the mask, position in it of the first element).
    Dropped NaN and inf give NaN, as 0 times them does.
    """
    stream = _mix(_mix(key[0]) ^ (call[0] * WEYL))
    threshold = np.int64(p * 2.0**53)  # against the upper 53 bits of each draw
    scale = x.dtype.type(0.0 if p >= 1.0 else 1.0 / (1.0 - p))
    zero = x.dtype.type(0)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        source = x[block * BLOCK : (block + 1) * BLOCK]
        target = y[block * BLOCK : (block + 1) * BLOCK]
        start = (np.uint64(block) * np.uint64(BLOCK) + call[1]) * WEYL + stream
        for i in range(source.size):
            draw = _mix(start + (np.uint64(i) + np.uint64(1)) * WEYL) >> np.uint64(11)
            target[i] = source[i] * (zero if np.int64(draw) < threshold else scale)
