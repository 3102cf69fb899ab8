"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients.

The products go to BLAS through NumPy, all but huge ones on one thread: see `blas`. Their bits do not depend on Numba's
threads.
"""

import numpy as np

from minitrain.kernels.blas import matmul
from nbnorm._jit import kernel

__all__ = ["backward_input", "backward_weight", "forward"]

Array = np.ndarray


def forward(x: Array, weight: Array, bias: Array, y: Array) -> None:
    """Overwrite y (N, out) with x (N, in) times weight (out, in), transposed, plus bias (out,) or (0,)."""
    matmul(x, weight.T, y)
    if bias.size:
        _add_to_rows.serial(bias, y)


def backward_input(dy: Array, weight: Array, dx: Array) -> None:
    """Overwrite dx (N, in) with dy (N, out) times weight (out, in)."""
    matmul(dy, weight, dx)


def backward_weight(dy: Array, x: Array, dweight: Array, dbias: Array) -> None:
    """Overwrite dweight (out, in) with dy (N, out), transposed, times x (N, in), and dbias (out,) or (0,)."""
    matmul(dy.T, x, dweight)
    if dbias.size:
        np.sum(dy, axis=0, out=dbias)


@kernel
def _add_to_rows(bias, y):
    """y[n] += bias. NumPy would first copy the bias into a buffer of the size of y, up to 8192 elements."""
    for n in range(y.shape[0]):
        row = y[n]
        for i in range(row.size):
            row[i] += bias[i]
