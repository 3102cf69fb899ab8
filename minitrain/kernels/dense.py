"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients.

The products run on register tiles (`products`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, and the bits do not depend on the number of threads.
"""

import numpy as np

from minitrain.kernels import products
from minitrain.kernels.blas import MULTITHREADED_FLOPS, matmul
from nbnorm._jit import kernel

__all__ = ["backward_input", "backward_weight", "forward"]

Array = np.ndarray

TERMS = 8  # products that cost as much as an element of an elementwise kernel


def forward(x: Array, weight: Array, bias: Array, sums: Array, y: Array) -> None:
    """Overwrite y (N, out) with x (N, in) times weight (out, in), transposed, plus bias (out,) or (0,).

    sums (products.SCRATCH,) is working space.
    """
    terms = x.size * weight.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_rows_fits(x, weight):
        products.of_rows.for_work(terms // TERMS)(x, weight, bias, sums, y)
        return
    if products.of_few_rows_fits(x, weight):
        products.of_few_rows.for_work(weight.size)(x, weight, bias, sums, y)
        return
    matmul(x, weight.T, y)
    if bias.size:
        _add_to_rows.serial(bias, y)


def backward_input(dy: Array, weight: Array, dy_transposed: Array, dx: Array) -> None:
    """Overwrite dx (N, in) with dy (N, out) times weight (out, in); dy_transposed (out, N) is working space."""
    terms = dx.size * weight.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_columns_fits(dy_transposed, weight):
        np.copyto(dy_transposed, dy.T)
        products.of_columns.for_work(terms // TERMS)(dy_transposed, weight, dx)
        return
    matmul(dy, weight, dx)


def backward_weight(dy: Array, x: Array, dweight: Array, dbias: Array) -> None:
    """Overwrite dweight (out, in) with dy (N, out), transposed, times x (N, in), and dbias (out,) or (0,)."""
    terms = dweight.size * x.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_columns_fits(dy, x):
        products.of_columns.for_work(terms // TERMS)(dy, x, dweight)
    else:
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
