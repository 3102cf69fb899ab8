"""The gradients of batch normalization: checks, output arrays, choice of kernel."""

from typing import Any

from nbnorm import halves
from nbnorm.batch_norm.forms import Form, backward_of_form
from nbnorm.batch_norm.parts import (
    ACTIVATIONS,
    BY_RUNNING_STATISTICS,
    BatchNormGradients,
    BatchNormStats,
    RenormStats,
    expect_gradients_apart,
    parts_of,
    read_stats,
    scale_and_shift,
)  # fmt: skip
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import FLOATS, HalfPrecision, expect_number, expect_one_of, mismatch
from nbnorm.kernels import batch_norm as kernels
from nbnorm.layout import Layout, as_array, channel_output, layout_of, ndarray, output

__all__ = ["batch_norm_backward"]

new_tuple = tuple.__new__  # a named tuple's own constructor takes twice as long


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
    lengths: Any = None,
    mask: Any = None,
    ghost_size: int | None = None,
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
    lengths, mask, ghost_size : optional
        As in the forward pass; the gradients are 0 where nothing is valid. What `renorm` did is in `stats`.

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
    try:
        layout = layout_of("x", array)
    except HalfPrecision:
        if not lengths is mask is ghost_size is None or type(stats) is RenormStats:
            raise
        return _of_halves((dy, array, y), stats, (gamma, beta), (running_mean, running_var), (eps, activation), out)
    view = layout.view
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    if type(stats) is RenormStats or not (lengths is mask is ghost_size is None):
        return backward_of_form(
            (dy, x, y), stats, (gamma, beta), (running_mean, running_var, eps), activation, out,
            Form(lengths, mask, ghost_size, None),
        )  # fmt: skip
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
    out_dx, out_dgamma, out_dbeta, out_dresidual = (out, None, None, None) if type(out) is ndarray else parts_of(out, y)
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
        expect_gradients_apart(
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


def _of_halves(
    given: tuple[Any, Any, Any], stats: Any, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[Any, Any],
    out: Any,
) -> BatchNormGradients:  # fmt: skip
    """`batch_norm_backward` of arrays of half precision; given = (dy, x, y), rule = (eps, activation)."""
    shape, (eps, activation) = given[1].shape, rule
    known = None
    if stats is not None:
        if running[0] is not None or running[1] is not None:
            raise TypeError(mismatch("stats", "None with running_mean and running_var", type(stats).__name__))
        known = read_stats(Layout(shape, (0, 0, 0), shape[1:2], False, FLOATS[0]), stats, BY_RUNNING_STATISTICS)

    dx, dgamma, dbeta, dresidual = parts_of(out, given[2])
    expect_gradients_apart(dgamma, dbeta, (
        *zip(("dy", "x", "y"), given, strict=True), ("gamma", affine[0]), ("beta", affine[1]), ("out.dx", dx),
        ("out.dresidual", dresidual),
    ))  # fmt: skip

    def call(dy: Any, x: Any, own: Any, **others: Any) -> BatchNormGradients:
        return batch_norm_backward(dy, x, None if own is None else BatchNormStats(*own), **others)

    vectors = {"gamma": affine[0], "beta": affine[1], "running_mean": running[0], "running_var": running[1]}
    settings = {"eps": eps, "activation": activation}
    return BatchNormGradients(*halves.backward_by_channels(call, given, vectors, out, settings, parts_of, known))
