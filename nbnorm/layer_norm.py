"""Layer normalization as a user calls it."""

from typing import Any, NamedTuple

from nbnorm import halves
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import HalfPrecision
from nbnorm.layout import as_array
from nbnorm.row_layout import axes_of, layout_of_axes
from nbnorm.row_norms import Given, NormGradients, expect_stats, forward, gradients_of, number_of, parts_of, read_stats

__all__ = ["LayerNormStats", "layer_norm_backward", "layer_norm_forward"]


class LayerNormStats(NamedTuple):
    """What `layer_norm_forward` found in its rows, and `layer_norm_backward` needs: x's shape without the axes."""

    mean: Array  #: float64
    inv_std: Array  #: float64: 1 / sqrt(biased variance + eps)


def layer_norm_forward(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    axes: Any = (-1,),
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> tuple[Any, LayerNormStats]:
    """Normalize each row by its own mean and variance.

    ``y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where `mean` and the biased `var` are
    taken over `axes`, and each element along these has a `gamma` and a `beta` of its own.

    Parameters
    ----------
    x : array of any shape, float32 or float64
        Any object that NumPy can view without a copy. Arrays whose axes lie in another order in memory, channels last
        say, are computed as they are where `axes` are the last in memory, and so are their results; otherwise they are
        copied, as other non-contiguous arrays are.
    gamma, beta : array of x's sizes along the axes, of x's dtype, optional
        Scale and shift; ones and zeros by default.
    axes : integers
        What a row is, counted from either end: (-1,) for the last, (-3, -2, -1) for the last three, (1,) for the
        channels of (N, C, H, W) at each pixel. The order in which they are named does not matter.
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
    stats : LayerNormStats
        Mean and inverse standard deviation of each row, float64, of x's shape without the axes.

    Raises
    ------
    TypeError
        A dtype other than float32 and float64, or arrays of different dtypes.
    ValueError
        Shapes that do not fit, axes that are not there, an unknown activation, numbers out of range.

    Notes
    -----
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.layer_norm_forward(np.array([[1.0, 3.0], [2.0, 6.0]]), eps=0.0)
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> stats.mean
    array([2., 4.])
    """
    array = as_array("x", x)
    try:
        layout = layout_of_axes("x", array, axes)
    except HalfPrecision:

        def call(values: Any, **others: Any) -> tuple[Any, LayerNormStats]:
            return layer_norm_forward(values, gamma, beta, axes=axes, eps=eps, activation=activation, **others)

        y, found = halves.forward_by_samples(call, array, residual, out, 0 not in axes_of(axes, array.ndim))
        return y, LayerNormStats(*halves.joined(found))
    y, mean, inv_std = forward(layout, array, Given(gamma, beta, None, activation), number_of(eps), residual, out)
    return y, LayerNormStats(mean, inv_std)


def layer_norm_backward(
    dy: Any,
    x: Any,
    stats: LayerNormStats,
    gamma: Any = None,
    beta: Any = None,
    *,
    axes: Any = (-1,),
    activation: str | None = None,
    y: Any = None,
    out: Any = None,
) -> NormGradients:
    """Gradients of `layer_norm_forward`.

    With ``x_hat = (x - mean) * inv_std``, g = dy where the activation let a value pass, else 0, and h = gamma * g:
    ``dbeta = sum(g)`` and ``dgamma = sum(g * x_hat)`` over all rows, ``dresidual = g``,
    ``dx = inv_std * (h - mean(h) - x_hat * mean(h * x_hat))`` with the means of each row.

    Parameters
    ----------
    dy : array like x
        Gradient of the loss with respect to the output.
    x, gamma, beta, axes, activation
        As in the forward pass. Where the activation let values pass is computed anew from `x`, or taken from `y`.
    stats : LayerNormStats
        As `layer_norm_forward` returned it.
    y : array like x, optional
        The output of the forward pass; needed where that added a residual, and only then.
    out : array like x, or a tuple (dx, dgamma, dbeta, dresidual) of arrays, optional
        Arrays to write into and return: dx alone, or several of them with None in the place of those to be made. dx may
        be `dy` or `x` itself, dresidual may be `dy` itself.

    Returns
    -------
    NormGradients
        dx, dgamma (None without gamma), dbeta (None without beta), dresidual (None without y).

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x = np.array([[1.0, 2.0, 6.0]])
    >>> y, stats = nbnorm.layer_norm_forward(x, gamma := np.ones(3), beta := np.zeros(3))
    >>> grads = nbnorm.layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), x, stats, gamma, beta)
    >>> grads.dbeta, grads.dx.round(4)
    (array([1., 0., 0.]), array([[ 0.1763, -0.2204,  0.0441]]))
    """
    array = as_array("x", x)
    try:
        layout = layout_of_axes("x", array, axes)
    except HalfPrecision:
        expect_stats(stats, LayerNormStats, "layer_norm_forward")
        where = axes_of(axes, array.ndim)
        own = tuple(array.shape[axis] for axis in where)

        def call(dy: Any, values: Any, known: LayerNormStats, **others: Any) -> NormGradients:
            return layer_norm_backward(dy, values, known, gamma, beta, axes=axes, activation=activation, **others)

        parts = parts_of(out, "(dx, dgamma, dbeta, dresidual)")
        return NormGradients(
            *halves.backward_by_samples(call, (dy, array, y), stats, parts, own, is_cut=0 not in where)
        )
    known = read_stats(layout, stats, LayerNormStats, "layer_norm_forward")
    return gradients_of(layout, dy, array, known, Given(gamma, beta, None, activation), y, out)
