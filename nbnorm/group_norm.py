"""Group normalization as a user calls it."""

from typing import Any, NamedTuple

from nbnorm import halves
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import HalfPrecision, expect_integer, mismatch
from nbnorm.layout import as_array
from nbnorm.row_layout import layout_of_channels
from nbnorm.row_norms import Given, NormGradients, forward, gradients_of, number_of, parts_of, read_stats

__all__ = ["GroupNormStats", "group_norm_backward", "group_norm_forward"]


class GroupNormStats(NamedTuple):
    """What `group_norm_forward` found in the groups of each sample, and `group_norm_backward` needs."""

    mean: Array  #: float64 (N, groups)
    inv_std: Array  #: float64 (N, groups): 1 / sqrt(biased variance + eps)


def group_norm_forward(
    x: Any,
    groups: int,
    gamma: Any = None,
    beta: Any = None,
    *,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> tuple[Any, GroupNormStats]:
    """Normalize each group of channels of each sample by its own mean and variance.

    ``y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where `mean` and the biased `var` are
    taken over the C / groups channels of a group and all that follows, and each channel has a `gamma` and a `beta`.
    One group is not layer norm, which has these for each element.

    Parameters
    ----------
    x : array (N, C, *spatial), float32 or float64
        Any object that NumPy can view without a copy. Arrays that are not contiguous are copied; where the channels are
        the last axis in memory, so they are in the results.
    groups : int
        A divisor of the number of channels.
    gamma, beta : array (C,) of x's dtype, optional
        Scale and shift; ones and zeros by default.
    eps : float
        Added to the variance.
    activation, residual, out
        As in `batch_norm_forward`.

    Returns
    -------
    y : array like x
    stats : GroupNormStats
        Mean and inverse standard deviation, float64 (N, groups).

    Notes
    -----
    Wu and He, "Group Normalization", 2018.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.group_norm_forward(np.array([[1.0, 3.0, 2.0, 6.0]]), 2, eps=0.0)
    >>> y, stats.mean
    (array([[-1.,  1., -1.,  1.]]), array([[2., 4.]]))
    """
    array = as_array("x", x)
    groups = expect_integer("groups", groups)
    try:
        layout = layout_of_channels("x", array, groups)
    except HalfPrecision:

        def call(values: Any, **others: Any) -> tuple[Any, GroupNormStats]:
            return group_norm_forward(values, groups, gamma, beta, eps=eps, activation=activation, **others)

        y, found = halves.forward_by_samples(call, array, residual, out, is_cut=True)
        return y, GroupNormStats(*halves.joined(found))
    y, mean, inv_std = forward(layout, array, Given(gamma, beta, None, activation), number_of(eps), residual, out)
    return y, GroupNormStats(mean, inv_std)


def group_norm_backward(
    dy: Any,
    x: Any,
    stats: GroupNormStats,
    gamma: Any = None,
    beta: Any = None,
    *,
    groups: int | None = None,
    activation: str | None = None,
    y: Any = None,
    out: Any = None,
) -> NormGradients:
    """Gradients of `group_norm_forward`.

    With ``x_hat = (x - mean) * inv_std``, g = dy where the activation let a value pass, else 0, and h = gamma * g:
    ``dbeta = sum(g)`` and ``dgamma = sum(g * x_hat)`` over all but the channels, ``dresidual = g``,
    ``dx = inv_std * (h - mean(h) - x_hat * mean(h * x_hat))`` with the means of each group of a sample.

    Parameters
    ----------
    dy : array like x
        Gradient of the loss with respect to the output.
    stats : GroupNormStats
        As `group_norm_forward` returned it.
    groups : int, optional
        `stats` says how many there are; where it is given, it must be as many.
    x, gamma, beta, activation, y, out
        As in `batch_norm_backward`.

    Returns
    -------
    NormGradients
        dx, dgamma (None without gamma), dbeta (None without beta), dresidual (None without y).

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x = np.array([[1.0, 2.0, 6.0]])
    >>> y, stats = nbnorm.group_norm_forward(x, 1)
    >>> nbnorm.group_norm_backward(np.array([[1.0, 0.0, 0.0]]), x, stats).dx.round(4)
    array([[ 0.1763, -0.2204,  0.0441]])
    """
    array = as_array("x", x)
    if not isinstance(stats, GroupNormStats):
        raise TypeError(mismatch("stats", "the GroupNormStats that group_norm_forward returned", type(stats).__name__))
    mean = as_array("stats.mean", stats.mean)
    if mean.ndim != 2:
        raise ValueError(mismatch("stats.mean", "shape (N, groups)", mean.shape))
    if groups is not None and expect_integer("groups", groups) != mean.shape[1]:
        raise ValueError(mismatch("groups", f"the {mean.shape[1]} of stats", groups))
    try:
        layout = layout_of_channels("x", array, mean.shape[1])
    except HalfPrecision:

        def call(dy: Any, values: Any, known: GroupNormStats, **others: Any) -> NormGradients:
            return group_norm_backward(dy, values, known, gamma, beta, activation=activation, **others)

        parts = parts_of(out, "(dx, dgamma, dbeta, dresidual)")
        own = array.shape[1:2]
        return NormGradients(*halves.backward_by_samples(call, (dy, array, y), stats, parts, own, is_cut=True))
    known = read_stats(layout, stats, GroupNormStats, "group_norm_forward")
    return gradients_of(layout, dy, array, known, Given(gamma, beta, None, activation), y, out)
