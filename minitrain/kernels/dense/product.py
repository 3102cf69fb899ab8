"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients.

In NumPy y = x @ weight.T + bias; dweight = dy.T @ x, dbias = dy.sum(axis=0), dx = dy @ weight.

The products run on register tiles (`tiles`), on the threads of all other kernels; huge and tiny ones go to BLAS
(`blas`). Which way is chosen by shape, and the bits do not depend on the number of threads.
"""

from minitrain.kernels.dense import tiles
from minitrain.kernels.dense.blas import MULTITHREADED_FLOPS, matmul
from nbnorm.jit import kernel
from nbnorm.jit.arrays import Array, nothing

__all__ = ["backward", "forward"]

# Products that cost as much as an element of an elementwise kernel: the fewer, the smaller the products that run on all
# threads. Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
TERMS = 8


def forward(x: Array, weight: Array, bias: Array, sums: Array, y: Array) -> None:
    """Overwrite y (N, out) with x (N, in) times weight (out, in), transposed, plus bias (out,) or (0,).

    sums (tiles.SCRATCH,) is working space.
    """
    terms = x.size * weight.shape[0]
    if 2 * terms < MULTITHREADED_FLOPS and tiles.of_rows_fits(x, weight):
        tiles.of_rows.for_work(terms // TERMS)(x, weight, bias, sums, y)
        return
    if tiles.of_few_rows_fits(x, weight):
        tiles.of_few_rows.for_work(weight.size)(x, weight, bias, sums, y)
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
    if 2 * terms < MULTITHREADED_FLOPS and tiles.gradient_fits(dweight):
        tiled = dx is not None and tiles.gradient_fits(dx)
        run = tiles.gradients.for_work((1 + tiled) * terms // TERMS)
        run(dy, x, weight, dweight, dbias, dx if tiled else nothing(weight.dtype, 2))
        if dx is not None and not tiled:
            matmul(dy, weight, dx)
        return
    matmul(dy.T, x, dweight)
    if dbias.size:
        tiles.sum_of_rows.serial(dy, dbias)
    if dx is not None:
        matmul(dy, weight, dx)


@kernel
def _add_to_rows(bias, y):
    """y[n] += bias. NumPy would first copy the bias into a buffer of the size of y, up to 8192 elements."""
    for n in range(y.shape[0]):
        row = y[n]
        for i in range(row.size):
            row[i] += bias[i]
