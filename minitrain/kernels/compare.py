"""Whether two arrays hold the same bits."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat, item

__all__ = ["same_bits"]

# Values of a task, 64 KiB of each array: fewer take less time than a thread needs to begin them, more leave threads
# idle. Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
BLOCK = 16 * 1024


@device
def _differences(a, b, start, stop):
    """The bits in which any of a[start : stop] and b[start : stop] differ."""
    bits = 0
    for i in range(start, stop):
        bits |= item(a, i) ^ item(b, i)
    return bits


@kernel
def same_bits(a, b, differs):
    """Whether a (L,) and b (L,), both int32, are equal; differs (ceil(L / BLOCK),) is working space."""
    first, second = flat(a), flat(b)
    for block in prange(differs.size):
        start = np.intp(block) * BLOCK
        differs[block] = _differences(first, second, start, min(start + BLOCK, first.size)) != 0
    found = 0
    for block in range(differs.size):
        found |= differs[block]
    return found == 0
