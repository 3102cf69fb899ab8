"""Sums of arrays: where a value is read more than once, its gradients are added."""

from nbnorm.jit import kernel, prange

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
