"""Dense (fully connected) layer: y = activation(x @ weight.T + bias), and its gradients.

The products run on register tiles (`products`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, and the bits do not depend on the number of threads.
"""

import numpy as np

from minitrain.kernels import epilogue, products
from minitrain.kernels.blas import MULTITHREADED_FLOPS, matmul
from minitrain.kernels.epilogue import IDENTITY

__all__ = ["backward", "backward_output", "forward"]

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
        epilogue.backward.for_work(dy.size)(dy, dy, IDENTITY, 0.0, dy, dbias)
    if dx is not None:
        matmul(dy, weight, dx)
