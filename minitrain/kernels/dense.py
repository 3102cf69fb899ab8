"""Dense (fully connected) layer: y = activation(x @ weight.T + bias), and its gradients.

The products run on register tiles (`products`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, and the bits do not depend on the number of threads.
"""

import numpy as np

from minitrain.kernels import epilogue, products
from minitrain.kernels.blas import MULTITHREADED_FLOPS, matmul
from minitrain.kernels.epilogue import IDENTITY

__all__ = ["backward_input", "backward_output", "backward_weight", "forward"]

Array = np.ndarray

TERMS = 8  # products that cost as much as an element of an elementwise kernel
COST = 4  # of an element of an activation, in additions


def forward(
    x: Array, weight: Array, bias: Array, sums: Array, y: Array, activation: int = IDENTITY, slope: float = 0.0
) -> None:
    """Overwrite y (N, out) with x (N, in) times weight (out, in), transposed, plus bias (out,) or (0,), activated.

    sums (products.SCRATCH,) is working space. The activation is a number of `epilogue`.
    """
    terms, added = x.size * weight.shape[0], bias if activation == IDENTITY else sums[:0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_rows_fits(x, weight):
        products.of_rows.for_work(terms // TERMS)(x, weight, added, sums, y)
    elif products.of_few_rows_fits(x, weight):
        products.of_few_rows.for_work(weight.size)(x, weight, added, sums, y)
    else:
        matmul(x, weight.T, y)
        added = sums[:0]
    if added.size < bias.size or activation != IDENTITY:
        epilogue.finish.for_work(COST * y.size)(bias, activation, slope, y)


def backward_output(dy: Array, y: Array, activation: int, slope: float, dz: Array, dbias: Array) -> None:
    """Overwrite dz (N, out) with dy times the derivative of the activation of value y, and dbias (out,) or (0,)."""
    epilogue.backward.for_work(dy.size)(dy, y, activation, slope, dz, dbias)


def backward_input(dy: Array, weight: Array, dx: Array) -> None:
    """Overwrite dx (N, in) with dy (N, out) times weight (out, in)."""
    terms = dx.size * weight.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_columns_fits(dx.shape[0], weight):
        products.of_columns.for_work(terms // TERMS)(dy, False, weight, dx)
    else:
        matmul(dy, weight, dx)


def backward_weight(dy: Array, x: Array, dweight: Array, dbias: Array) -> None:
    """Overwrite dweight (out, in) with dy (N, out), transposed, times x (N, in), and dbias (out,) or (0,)."""
    terms = dweight.size * x.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and products.of_columns_fits(dweight.shape[0], x):
        products.of_columns.for_work(terms // TERMS)(dy, True, x, dweight)
    else:
        matmul(dy.T, x, dweight)
    if dbias.size:
        epilogue.backward.for_work(dy.size)(dy, dy, IDENTITY, 0.0, dy, dbias)
