"""Batch normalization as a user calls it: argument checks, output arrays, choice of kernel."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import FLOATS, expect_number, expect_one_of, mismatch
from nbnorm.kernels import batch_norm as kernels
from nbnorm.layout import (
    Copied,
    Layout,
    MovedVector,
    as_array,
    channel_output,
    expect_apart,
    layout_of,
    ndarray,
    output,
    takes,
)

__all__ = ["BatchNormGradients", "BatchNormStats", "batch_norm_backward", "batch_norm_forward", "batch_norm_infer"]

ACTIVATIONS = (None, "relu")


class BatchNormStats(NamedTuple):
    """What `batch_norm_forward` found in its batch, and `batch_norm_backward` needs."""

    mean: Array  #: float64 (C,)
    inv_std: Array  #: float64 (C,): 1 / sqrt(biased variance + eps)


class BatchNormGradients(NamedTuple):
    """What `batch_norm_backward` returns; a part that does not apply is None."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dresidual: Any


empty, new_tuple = np.empty, tuple.__new__  # a named tuple's own constructor takes twice as long


def batch_norm_forward(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> tuple[Any, BatchNormStats]:
    """Normalize each channel of a training batch by the batch's own mean and variance.

    ``y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where `mean` and the biased `var` are
    taken over all axes but the second.

    Parameters
    ----------
    x : array (N, C, *spatial), float32 or float64
        Any object that NumPy can view without a copy. Arrays whose channels are the last axis in memory are computed
        as they are and so are their results; other non-contiguous arrays are copied.
    gamma, beta : array (C,) of x's dtype, optional
        Scale and shift; ones and zeros by default.
    running_mean, running_var : array (C,) of x's dtype, optional
        Updated in place: ``running = (1 - momentum) * running + momentum * batch``, with the unbiased variance.
    momentum : float
        Weight of the new batch, from 0 to 1. For a cumulative average pass 1 / (number of batches so far).
    eps : float
        Added to the variance.
    activation : None or "relu"
        Applied last. A NaN stays a NaN.
    residual : array like x, optional
        Added before the activation.
    out : array like x, optional
        Written into and returned. It may be `x` or `residual` itself.

    Returns
    -------
    y : array like x
    stats : BatchNormStats
        Mean and inverse standard deviation, float64.

    Raises
    ------
    TypeError
        A dtype other than float32 and float64, or arrays of different dtypes.
    ValueError
        Shapes that do not fit, fewer than two values per channel, an unknown activation, numbers out of range.

    Notes
    -----
    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    2015. Sums run over deviations from a shift near the mean (Chan, Golub and LeVeque, "Algorithms for Computing the
    Sample Variance", 1983) in blocks of fixed length, so that results do not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.batch_norm_forward(np.array([[1.0, 3.0], [2.0, 4.0]]), eps=0.0)
    >>> y
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> stats.mean
    array([1.5, 3.5])
    """
    array = x if type(x) is ndarray else as_array("x", x)
    layout = layout_of("x", array)
    view, dtype = layout.view, layout.dtype
    if view[0] * view[2] < 2:
        raise ValueError(mismatch("x", "at least 2 values per channel in training", f"shape {layout.shape}"))
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    if not (type(momentum) is type(eps) is float and 0.0 <= momentum <= 1.0 and eps >= 0.0):
        momentum, eps = expect_number("momentum", momentum, 0.0, 1.0), expect_number("eps", eps, 0.0)
    scale, shift = scale_and_shift(layout, gamma, beta)
    means = nothing(dtype) if running_mean is None else layout.moved("running_mean", running_mean)
    variances = nothing(dtype) if running_var is None else layout.moved("running_var", running_var)
    added = nothing(dtype, 3) if residual is None else layout.read("residual", residual)
    if running_mean is not None or running_var is not None:
        read = (("x", array), ("gamma", gamma), ("beta", beta), ("residual", residual))
        if running_mean is not None:
            expect_apart("running_mean", running_mean, (*read, ("running_var", running_var)))
        if running_var is not None:
            expect_apart("running_var", running_var, read)
    y, flat_y, copied = output("out", layout, out, (gamma, beta, running_mean, running_var), (x, residual))
    mean, inv_std = empty(view[1]), empty(view[1])
    kernels.forward(
        array.reshape(view) if layout.direct else layout.flat(array), added, scale, shift,
        means if type(means) is ndarray else means.flat,
        variances if type(variances) is ndarray else variances.flat,
        momentum, eps, activation is not None, mean, inv_std, flat_y,
    )  # fmt: skip
    for part in (means, variances, copied):
        if isinstance(part, (MovedVector, Copied)):
            part.done()
    return y, new_tuple(BatchNormStats, (mean, inv_std))


def batch_norm_infer(
    x: Any,
    running_mean: Any,
    running_var: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> Any:
    """Normalize each channel by given statistics, as a trained net does.

    ``y = activation(gamma * (x - running_mean) / sqrt(running_var + eps) + beta + residual)``; arguments and errors
    are those of `batch_norm_forward`, the running statistics are only read, and any number of values will do.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> nbnorm.batch_norm_infer(np.array([[3.0], [5.0]]), np.array([3.0]), np.array([4.0]), eps=0.0)
    array([[0.],
           [1.]])
    """
    array = x if type(x) is ndarray else as_array("x", x)
    layout = layout_of("x", array)
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    if not (type(eps) is float and eps >= 0.0):
        eps = expect_number("eps", eps, 0.0)
    scale, shift = scale_and_shift(layout, gamma, beta)
    mean, var = layout.vector("running_mean", running_mean), layout.vector("running_var", running_var)
    added = nothing(layout.dtype, 3) if residual is None else layout.read("residual", residual)
    y, flat_y, copied = output("out", layout, out, (gamma, beta, running_mean, running_var), (x, residual))
    flat_x = array.reshape(layout.view) if layout.direct else layout.flat(array)
    kernels.infer(flat_x, added, scale, shift, mean, var, eps, activation is not None, flat_y)
    if copied is not None:
        copied.done()
    return y


def batch_norm_backward(
    dy: Any,
    x: Any,
    stats: BatchNormStats | None = None,
    gamma: Any = None,
    beta: Any = None,
    *,
    running_mean: Any = None,
    running_var: Any = None,
    eps: float = 1e-5,
    activation: str | None = None,
    y: Any = None,
    out: Any = None,
) -> BatchNormGradients:
    """Gradients of `batch_norm_forward`, or of `batch_norm_infer` where running statistics are given instead of stats.

    With ``x_hat = (x - mean) * inv_std``, n values per channel, and g = dy where the activation let a
    value pass, else 0:
    ``dbeta = sum(g)``, ``dgamma = sum(g * x_hat)``, ``dresidual = g``,
    ``dx = gamma * inv_std * (g - dbeta / n - x_hat * dgamma / n)``.
    Running statistics do not depend on x, as in a frozen batch norm: ``dx = gamma * inv_std * g`` with
    ``inv_std = 1 / sqrt(running_var + eps)``, the rest alike; any number of values per channel will do.

    Parameters
    ----------
    dy : array like x
        Gradient of the loss with respect to the output.
    x : array (N, C, *spatial), float32 or float64
        The input of the forward pass.
    stats : BatchNormStats
        As `batch_norm_forward` returned it. Not given for the gradients of `batch_norm_infer`.
    gamma, beta : array (C,), optional
        As in the forward pass.
    running_mean, running_var : array (C,) of x's dtype
        Both or neither: those that `batch_norm_infer` was given. They are only read.
    eps : float
        That of `batch_norm_infer`; `stats` has that of `batch_norm_forward` in it.
    activation : None or "relu"
        As in the forward pass. Where it let values pass is computed anew from `x`, or taken from `y`.
    y : array like x, optional
        The output of the forward pass; needed where that added a residual, and only then.
    out : array like x, or a tuple (dx, dgamma, dbeta, dresidual) of arrays, optional
        Arrays to write into and return: dx alone, or several of them with None in the place of those to be made. dx may
        be `dy` or `x` itself, dresidual may be `dy` itself.

    Returns
    -------
    BatchNormGradients
        dx, dgamma (None without gamma), dbeta (None without beta), dresidual (None without y).

    Raises
    ------
    TypeError
        Statistics that are neither, or both; dtypes that differ.
    ValueError
        Shapes that do not fit; with stats, fewer than two values per channel.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> y, stats = nbnorm.batch_norm_forward(x, gamma := np.ones(1), beta := np.zeros(1))
    >>> grads = nbnorm.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), x, stats, gamma, beta)
    >>> grads.dbeta, grads.dx.round(4)[:, 0]
    (array([1.]), array([ 0.1763, -0.2204,  0.0441]))

    A frozen batch norm, which normalized by its running statistics:

    >>> mean, var = np.array([3.0]), np.array([4.0])
    >>> y = nbnorm.batch_norm_infer(x, mean, var, gamma, beta, eps=0.0)
    >>> dy = np.array([[1.0], [0.0], [0.0]])
    >>> grads = nbnorm.batch_norm_backward(dy, x, None, gamma, beta, running_mean=mean, running_var=var, eps=0.0)
    >>> grads.dx[:, 0], grads.dgamma
    (array([0.5, 0. , 0. ]), array([-1.]))
    """
    array = x if type(x) is ndarray else as_array("x", x)
    layout = layout_of("x", array)
    view = layout.view
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    frozen = stats is None and (running_mean is not None or running_var is not None)
    if frozen:
        if not (type(eps) is float and eps >= 0.0):
            eps = expect_number("eps", eps, 0.0)
        mean, spread = layout.vector("running_mean", running_mean), layout.vector("running_var", running_var)
    else:
        if running_mean is not None or running_var is not None:
            raise TypeError(mismatch("stats", "None with running_mean and running_var", type(stats).__name__))
        mean, spread = read_stats(layout, stats, BY_RUNNING_STATISTICS)
        if view[0] * view[2] < 2:
            raise ValueError(mismatch("x", "at least 2 values per channel in training", f"shape {layout.shape}"))
    no_array = nothing(layout.dtype, 3)
    upstream = layout.read("dy", dy)
    scale, shift = scale_and_shift(layout, gamma, beta)
    result = no_array if y is None else layout.read("y", y)
    out_dx, out_dgamma, out_dbeta, out_dresidual = (out, None, None, None) if type(out) is ndarray else _parts(out, y)
    small = (mean, spread, gamma, beta)
    dx, flat_dx, copied_dx = output("out.dx", layout, out_dx, (*small, y, out_dresidual), (dy, x))
    dresidual, flat_dresidual, copied_dresidual = None, no_array, None
    if y is not None:
        dresidual, flat_dresidual, copied_dresidual = output(
            "out.dresidual", layout, out_dresidual, (*small, x, y), (dy,)
        )
    dgamma, flat_dgamma, moved_dgamma = channel_output("out.dgamma", layout, out_dgamma)
    dbeta, flat_dbeta, moved_dbeta = channel_output("out.dbeta", layout, out_dbeta)
    if out_dgamma is not None or out_dbeta is not None:
        _expect_gradients_apart(
            out_dgamma, out_dbeta,
            (("dy", dy), ("x", array), ("y", y), ("gamma", gamma), ("beta", beta), ("out.dx", dx),
             ("out.dresidual", dresidual)),
        )  # fmt: skip
    if gamma is None and out_dgamma is None:
        dgamma = None
    if beta is None and out_dbeta is None:
        dbeta = None
    flat_x = array.reshape(view) if layout.direct else layout.flat(array)
    if frozen:
        kernels.frozen_backward(
            upstream, flat_x, result, mean, spread, scale, shift, eps, activation is not None, y is not None,
            flat_dx, nothing(layout.dtype) if dgamma is None else flat_dgamma,
            nothing(layout.dtype) if dbeta is None else flat_dbeta, flat_dresidual,
        )  # fmt: skip
    else:
        kernels.backward(
            upstream, flat_x, result, mean, spread, scale, shift, activation is not None, y is not None,
            flat_dx, flat_dgamma, flat_dbeta, flat_dresidual,
        )  # fmt: skip
    for part in (copied_dx, copied_dresidual, moved_dgamma, moved_dbeta):
        if part is not None:
            part.done()
    return new_tuple(BatchNormGradients, (dx, dgamma, dbeta, dresidual))


def _expect_gradients_apart(dgamma: Any, dbeta: Any, others: tuple[tuple[str, Any], ...]) -> None:
    if dgamma is not None:
        expect_apart("out.dgamma", dgamma, (*others, ("out.dbeta", dbeta)))
    if dbeta is not None:
        expect_apart("out.dbeta", dbeta, others)


NO_GRADIENTS = (None, None, None, None)


def _parts(out: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    """The caller's arrays for dx, dgamma, dbeta and dresidual; None for those that are to be made."""
    if out is None:
        return NO_GRADIENTS
    if not isinstance(out, tuple):
        return out, None, None, None
    if len(out) != 4:
        raise ValueError(mismatch("out", "an array or a tuple (dx, dgamma, dbeta, dresidual)", f"{len(out)} parts"))
    if out[3] is not None and y is None:
        raise ValueError(mismatch("out.dresidual", "None without y", type(out[3]).__name__))
    return out


def scale_and_shift(layout: Layout, gamma: Any, beta: Any) -> tuple[Array, Array]:
    """gamma and beta as the kernels take them; ones and zeros, which are not to be written into, by default."""
    return (
        _filled(1.0, layout.view[1], layout.dtype) if gamma is None else layout.vector("gamma", gamma),
        _filled(0.0, layout.view[1], layout.dtype) if beta is None else layout.vector("beta", beta),
    )


@lru_cache(maxsize=8)
def _filled(value: float, channels: int, dtype: np.dtype[Any]) -> Array:
    return np.full(channels, value, dtype)


# What to write where statistics were given that are not a batch's.
BY_RUNNING_STATISTICS = (
    "for the gradients of batch_norm_infer leave stats out and pass running_mean=, running_var= and eps="
)


def read_stats(layout: Layout, stats: Any, remedy: str) -> tuple[Array, Array]:
    """Mean and inverse standard deviation as the kernels take them.

    A pair of arrays would do, but so would (running_mean, running_var) then: wrong numbers without a word.
    """
    if not isinstance(stats, BatchNormStats):
        expected = "the BatchNormStats that batch_norm_forward returned"
        raise TypeError(f"{mismatch('stats', expected, type(stats).__name__)}; {remedy}")
    mean, inv_std = stats
    if takes(mean, layout.channels, FLOATS[1]) and takes(inv_std, layout.channels, FLOATS[1]):
        return mean, inv_std
    wide = Layout(layout.shape, layout.view, layout.channels, False, FLOATS[1])
    return wide.vector("stats.mean", mean), wide.vector("stats.inv_std", inv_std)
