"""Sums of arrays: where a value is read more than once, its gradients are added."""

from nbnorm.jit import kernel, prange

# Elements of a task: fewer take less time than a thread needs to begin them, more leave threads idle on small arrays.
# Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
BLOCK = 4096


@kernel
def add(a, b, y):
    """y = a + b; all of shape (n,). y may be a or b."""
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        stop = min(y.size, start + BLOCK)
        # Slices start at index 0: LLVM then knows that no index is negative, and vectorizes.
        part_a, part_b, part_y = a[start:stop], b[start:stop], y[start:stop]
        for i in range(part_y.size):
            part_y[i] = part_a[i] + part_b[i]
