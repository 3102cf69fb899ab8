"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients.

The products run on register tiles (`products`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, and the bits do not depend on the number of threads.
"""

import numpy as np

from minitrain.kernels.dense import tiles as products
from minitrain.kernels.dense.blas import MULTITHREADED_FLOPS, matmul
from nbnorm.jit import kernel

__all__ = ["backward", "forward"]

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


def backward(dy: Array, x: Array, weight: Array, dweight: Array, dbias: Array, dx: Array | None) -> None:
    """Overwrite the gradients, from dy (N, out).

    dweight (out, in) becomes dy, transposed, times x (N, in); dbias (out,) or (0,) its sum over the rows; dx (N, in),
    where it is wanted, dy times weight (out, in).
    """
    terms = dweight.size * x.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.gradient_fits(dweight):
        tiled = dx is not None and products.gradient_fits(dx)
        run = products.gradients.for_work((1 + tiled) * terms // TERMS)
        run(dy, x, weight, dweight, dbias, dx if tiled else weight[:0])
        if dx is not None and not tiled:
            matmul(dy, weight, dx)
        return
    matmul(dy.T, x, dweight)
    if dbias.size:
        products.sum_of_rows.serial(dy, dbias)
    if dx is not None:
        matmul(dy, weight, dx)


@kernel
def _add_to_rows(bias, y):
    """y[n] += bias. NumPy would first copy the bias into a buffer of the size of y, up to 8192 elements."""
    for n in range(y.shape[0]):
        row = y[n]
        for i in range(row.size):
            row[i] += bias[i]
