"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients.

In NumPy y = x @ weight.T + bias; dweight = dy.T @ x, dbias = dy.sum(axis=0), dx = dy @ weight.

The products run on register tiles (`tiles`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, when a product is bound to its arrays: what `forward` and `backward` return
computes. The bits do not depend on the number of threads.
"""

from functools import partial

from minitrain.kernels.calls import Call, in_order
from minitrain.kernels.dense import tiles
from minitrain.kernels.dense.blas import MULTITHREADED_FLOPS, matmul
from nbnorm.jit import kernel
from nbnorm.jit.arrays import Array, nothing

__all__ = ["backward", "forward"]

# Products that cost as much as an element of an elementwise kernel: the fewer, the smaller the products that run on all
# threads. Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
TERMS = 8


def forward(x: Array, weight: Array, bias: Array | None, sums: Array, y: Array) -> Call:
    """Return the call that overwrites y (N, out) with x (N, in) times weight (out, in), transposed, plus bias (out,).

    sums (tiles.SCRATCH,) is working space.
    """
    terms = x.size * weight.shape[0]
    added = nothing(x.dtype) if bias is None else bias
    if 2 * terms < MULTITHREADED_FLOPS and tiles.of_rows_fits(x, weight):
        return partial(tiles.of_rows.for_work(terms // TERMS), x, weight, added, sums, y)
    if tiles.of_few_rows_fits(x, weight):
        return partial(tiles.of_few_rows.for_work(weight.size), x, weight, added, sums, y)
    product = partial(matmul, x, weight.T, y)
    return in_order(product, None if bias is None else partial(_add_to_rows.serial, bias, y))


def backward(dy: Array, x: Array, weight: Array, dweight: Array | None, dbias: Array | None, dx: Array | None) -> Call:
    """Return the call that overwrites the gradients, from dy (N, out).

    dweight (out, in) becomes dy, transposed, times x (N, in); dbias (out,) its sum over the rows; dx (N, in) dy times
    weight (out, in). Those that are not wanted are None; only dweight needs x. Which way each of them is made does not
    depend on the others, and so its bits do not.
    """
    terms = weight.size * x.shape[0]
    through_blas = None if dx is None else partial(matmul, dy, weight, dx)
    if 2 * terms >= MULTITHREADED_FLOPS or not tiles.gradient_fits(weight):
        summed = None if dbias is None else partial(tiles.sum_of_rows.serial, dy, dbias)
        return in_order(None if dweight is None else partial(matmul, dy.T, x, dweight), summed, through_blas)
    tiled = dx is not None and tiles.gradient_fits(dx)
    absent, summed_into = nothing(dy.dtype, 2), nothing(dy.dtype) if dbias is None else dbias
    run = tiles.gradients.for_work(((dweight is not None) + tiled) * terms // TERMS)
    product = absent if dweight is None else dweight
    in_tiles = partial(run, dy, x, weight, product, summed_into, dx if tiled else absent)
    wanted = tiled or dweight is not None or dbias is not None
    return in_order(in_tiles if wanted else None, None if tiled else through_blas)


@kernel
def _add_to_rows(bias, y):
    """y[n] += bias. NumPy would first copy the bias into a buffer of the size of y, up to 8192 elements."""
    for n in range(y.shape[0]):
        row = y[n]
        for i in range(row.size):
            row[i] += bias[i]
