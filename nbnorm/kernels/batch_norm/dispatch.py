"""Batch normalization on C-contiguous (N, C, L) arrays: arrays in, arrays out, no checks.

    y = relu(gamma (x - mean) / sqrt(var + eps) + beta + residual)
    g = dy where y is not cut off, else 0
    dbeta = sum g, dgamma = sum g x_hat, dresidual = g, dx = gamma inv_std (g - dbeta / n - x_hat dgamma / n)

with mean, var and the sums over the n = N L values of each channel, and x_hat = (x - mean) inv_std. In NumPy::

    def forward(x, residual, gamma, beta, eps):
        mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
        inv_std = 1 / np.sqrt(var + eps)
        y = gamma[:, None] * (x - mean) * inv_std + beta[:, None] + residual
        return np.maximum(y, 0), mean, inv_std

    def backward(dy, x, y, mean, inv_std, gamma):
        g, x_hat, n = np.where(y > 0, dy, 0), (x - mean) * inv_std, x.shape[0] * x.shape[2]
        dbeta, dgamma = g.sum((0, 2), keepdims=True), (g * x_hat).sum((0, 2), keepdims=True)
        dx = gamma[:, None] * inv_std * (g - dbeta / n - x_hat * dgamma / n)
        return dx, dgamma.ravel(), dbeta.ravel(), g

The kernels go further from it step by step:

- One factor for each channel, `statistics.factors`: a value takes a subtraction, an addition and a multiplication.
- Mean and variance in one pass, of deviations from a shift near the mean (`statistics.sampled_shift`): x is read twice
  rather than three times, and squares of large means do not cancel. Where that went wrong: `statistics.in_two_passes`.
- Sums of a block in the type of x, of blocks in float64 (`sums`): as fast as the one and as exact as the other.
- Groups of channels are summed and normalized at once (`channels_first.cut`): the second pass finds them in the cache.
- Vectors across the borders of channels (`loops`): whole vectors are stored at multiples of their size.
- Channels that are last in memory in vectors (`channels_last`): those of a sample lie side by side.
- Backward computes the output anew rather than keep it, and takes g from dresidual where that was written.
- Large outputs are stored past the caches, or announced to them: lines are not read only to be overwritten.

By given statistics everything is simpler: `inference` forward, `fixed` backward (a frozen batch norm).

The functions below choose among the kernels by shape: rows of values (L > 1) or columns of channels (L = 1), parallel
or serial. gamma, beta and running_* have x's dtype, mean and inv_std are float64. All results are overwritten. The bits
of a result do not depend on the number of threads, nor on whether the serial form was chosen.
"""

from types import ModuleType
from typing import Any

from nbnorm.jit.arrays import nothing
from nbnorm.kernels.batch_norm import channels_first, channels_last, inference

NO_RENORM = (0.0, 0.0)  # limits of batch renormalization where there is none


def forward(
    x: Any, residual: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, momentum: float, eps: float,
    relu: bool, mean: Any, inv_std: Any, y: Any, limits: tuple[float, float] = NO_RENORM,
) -> None:  # fmt: skip
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); moves the running statistics.

    An empty (0, 0, 0) residual is none; empty running statistics are not moved. y may be x or residual. `limits` are
    rmax and dmax of batch renormalization, see `renorm`.
    """
    size = x.size
    if size == 0:
        return
    images, channels, length = x.shape
    room: ModuleType = channels_last if length == 1 else channels_first
    if length == 1:
        row = channels_last.cut.cut(images, channels, x.itemsize)
    else:
        row = channels_first.cut.cut(images, channels, length, x.itemsize, 1)
    room.forward.forward.for_work(size)(
        x, residual, gamma, beta, running_mean, running_var, (momentum, eps, *limits), relu, row, (mean, inv_std), y
    )


def statistics(
    x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, momentum: float, eps: float, mean: Any,
    inv_std: Any,
) -> None:  # fmt: skip
    """Write mean and inv_std of `forward` and move the running statistics: all of it but y."""
    none = nothing(x.dtype, 3)
    forward(x, none, gamma, beta, running_mean, running_var, momentum, eps, False, mean, inv_std, none)


def infer(
    x: Any, residual: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, eps: float, relu: bool, y: Any
) -> None:
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual])"""
    if x.size == 0:
        return
    inference.infer.for_work(x.size)(x, residual, gamma, beta, running_mean, running_var, eps, relu, y)


def backward(
    dy: Any, x: Any, y: Any, mean: Any, inv_std: Any, gamma: Any, beta: Any, relu: bool, residual_given: bool,
    dx: Any, dgamma: Any, dbeta: Any, dresidual: Any,
) -> None:  # fmt: skip
    """Gradients of `forward`; see above for the formulas.

    What the ReLU cut off is computed anew from x, or taken from y where a residual was added (y may be empty
    otherwise). An empty (0, 0, 0) dx or dresidual is not wanted. dx may be dy or x, dresidual may be dy.
    """
    size = x.size
    if size == 0:
        return
    images, channels, length = x.shape
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    room: ModuleType = channels_last if length == 1 else channels_first
    if length == 1:
        row = channels_last.cut.cut(images, channels, x.itemsize)
    else:
        row = channels_first.cut.cut(images, channels, length, x.itemsize, 3 if residual_given else 2)
    room.backward.backward.for_work(size)(
        dy, x, y, (mean, inv_std), gamma, beta, relu, residual_given, row, (dx, dgamma, dbeta, dresidual)
    )


def frozen_backward(
    dy: Any, x: Any, y: Any, mean: Any, var: Any, gamma: Any, beta: Any, eps: float, relu: bool, by_output: bool,
    dx: Any, dgamma: Any, dbeta: Any, dresidual: Any,
) -> None:  # fmt: skip
    """Gradients of `infer`: the statistics are fixed. See `fixed` for the formulas.

    What the ReLU cut off is computed anew from x, or taken from y (`by_output`; it may be empty otherwise). Gradients
    that are empty are not wanted, and only dgamma and a ReLU without y need x. dx may be dy or x, dresidual may be dy.
    """
    size = x.size
    if size == 0:
        dgamma.fill(0)
        dbeta.fill(0)
        return
    if dgamma.size == 0 and (by_output or not relu):
        x = dy  # any array will do: what it holds matters to dgamma alone
    if by_output and not relu:
        y = dy  # any output will do: nothing was cut off
    images, channels, length = x.shape
    room: ModuleType = channels_last if length == 1 else channels_first
    if length == 1:
        row = channels_last.cut.cut(images, channels, x.itemsize)
    else:
        row = channels_first.cut.cut(images, channels, length, x.itemsize, 3 if by_output else 2)
    room.frozen.frozen.for_work(size)(
        dy, x, y, (gamma, beta), (mean, var), eps, (relu, by_output), row, (dx, dgamma, dbeta, dresidual)
    )
