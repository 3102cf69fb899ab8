"""RMS normalization as a user calls it."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm import halves
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import HalfPrecision
from nbnorm.layout import as_array
from nbnorm.row_layout import axes_of, layout_of_axes
from nbnorm.row_norms import Given, NormGradients, expect_stats, forward, gradients_of, number_of, parts_of, read_stats

__all__ = ["RMSNormStats", "rms_norm_backward", "rms_norm_forward"]


class RMSNormStats(NamedTuple):
    """What `rms_norm_forward` found in its rows, and `rms_norm_backward` needs: x's shape without the axes."""

    inv_rms: Array  #: float64: 1 / sqrt(mean of squares + eps)


def rms_norm_forward(
    x: Any,
    gamma: Any = None,
    *,
    axes: Any = (-1,),
    eps: float | None = None,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> tuple[Any, RMSNormStats]:
    """Divide each row by the root of the mean of its squares.

    ``y = activation(gamma * x / sqrt(mean(x**2) + eps) + residual)``, where the mean is taken over `axes`, and each
    element along these has a `gamma` of its own.

    Parameters
    ----------
    x, gamma, axes, activation, residual, out
        As in `layer_norm_forward`.
    eps : float, optional
        Added to the mean of squares. By default the distance from 1 to the next number of x's dtype, as in PyTorch.

    Returns
    -------
    y : array like x
    stats : RMSNormStats
        The inverse root of each row, float64, of x's shape without the axes.

    Notes
    -----
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.rms_norm_forward(np.array([[1.0, 7.0], [5.0, 5.0]]), eps=0.0)
    >>> y
    array([[0.2, 1.4],
           [1. , 1. ]])
    """
    array = as_array("x", x)
    try:
        layout = layout_of_axes("x", array, axes)
    except HalfPrecision:
        eps = halves.epsilon_of(array.dtype) if eps is None else eps

        def call(values: Any, **others: Any) -> tuple[Any, RMSNormStats]:
            return rms_norm_forward(values, gamma, axes=axes, eps=eps, activation=activation, **others)

        y, found = halves.forward_by_samples(call, array, residual, out, 0 not in axes_of(axes, array.ndim))
        return y, RMSNormStats(*halves.joined(found))
    eps = float(np.finfo(layout.dtype).eps) if eps is None else number_of(eps)
    y, _, inv_rms = forward(layout, array, Given(gamma, None, None, activation, False), eps, residual, out)
    return y, RMSNormStats(inv_rms)


def rms_norm_backward(
    dy: Any,
    x: Any,
    stats: RMSNormStats,
    gamma: Any = None,
    *,
    axes: Any = (-1,),
    activation: str | None = None,
    y: Any = None,
    out: Any = None,
) -> NormGradients:
    """Gradients of `rms_norm_forward`.

    With ``x_hat = x * inv_rms``, g = dy where the activation let a value pass, else 0, and h = gamma * g:
    ``dgamma = sum(g * x_hat)`` over all rows, ``dresidual = g``, ``dx = inv_rms * (h - x_hat * mean(h * x_hat))`` with
    the mean of each row. Arguments are those of `layer_norm_backward`.

    Returns
    -------
    NormGradients
        dx, dgamma (None without gamma), dbeta (None), dresidual (None without y).

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x = np.array([[1.0, 7.0]])
    >>> y, stats = nbnorm.rms_norm_forward(x, eps=0.0)
    >>> nbnorm.rms_norm_backward(np.array([[1.0, 0.0]]), x, stats).dx
    array([[ 0.196, -0.028]])
    """
    array = as_array("x", x)
    try:
        layout = layout_of_axes("x", array, axes)
    except HalfPrecision:
        expect_stats(stats, RMSNormStats, "rms_norm_forward")
        where = axes_of(axes, array.ndim)
        own = tuple(array.shape[axis] for axis in where)

        def call(dy: Any, values: Any, known: RMSNormStats, **others: Any) -> NormGradients:
            return rms_norm_backward(dy, values, known, gamma, axes=axes, activation=activation, **others)

        parts = parts_of(out, "(dx, dgamma, dbeta, dresidual)")
        return NormGradients(
            *halves.backward_by_samples(call, (dy, array, y), stats, parts, own, is_cut=0 not in where)
        )
    known = read_stats(layout, stats, RMSNormStats, "rms_norm_forward")
    return gradients_of(layout, dy, array, known, Given(gamma, None, None, activation, False), y, out)
