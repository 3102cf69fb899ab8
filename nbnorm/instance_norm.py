"""Instance normalization as a user calls it."""

from typing import Any, NamedTuple

from nbnorm.jit.arrays import Array
from nbnorm.layout import as_array
from nbnorm.row_layout import expect_several, layout_of_channels
from nbnorm.row_norms import Given, NormGradients, forward, gradients_of, number_of, read_stats

__all__ = ["InstanceNormStats", "instance_norm_backward", "instance_norm_forward"]


class InstanceNormStats(NamedTuple):
    """What `instance_norm_forward` found in the channels of each sample, and `instance_norm_backward` needs."""

    mean: Array  #: float64 (N, C)
    inv_std: Array  #: float64 (N, C): 1 / sqrt(biased variance + eps)


def instance_norm_forward(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
) -> tuple[Any, InstanceNormStats]:
    """Normalize each channel of each sample by its own mean and variance.

    ``y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where `mean` and the biased `var` are
    taken over all axes but the first two.

    Parameters
    ----------
    x : array (N, C, *spatial), float32 or float64
        With at least two values in a channel. Otherwise as in `group_norm_forward`, like all other arguments.

    Returns
    -------
    y : array like x
    stats : InstanceNormStats
        Mean and inverse standard deviation, float64 (N, C).

    Notes
    -----
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.instance_norm_forward(np.array([[[1.0, 3.0], [2.0, 6.0]]]), eps=0.0)
    >>> y
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    array = as_array("x", x)
    layout = layout_of_channels("x", array)
    expect_several("x", array)
    y, mean, inv_std = forward(layout, array, Given(gamma, beta, None, activation), number_of(eps), residual, out)
    return y, InstanceNormStats(mean, inv_std)


def instance_norm_backward(
    dy: Any,
    x: Any,
    stats: InstanceNormStats,
    gamma: Any = None,
    beta: Any = None,
    *,
    activation: str | None = None,
    y: Any = None,
    out: Any = None,
) -> NormGradients:
    """Gradients of `instance_norm_forward`: as in `group_norm_backward`, with groups of one channel.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x = np.array([[[1.0, 2.0, 6.0]]])
    >>> y, stats = nbnorm.instance_norm_forward(x)
    >>> nbnorm.instance_norm_backward(np.array([[[1.0, 0.0, 0.0]]]), x, stats).dx.round(4)
    array([[[ 0.1763, -0.2204,  0.0441]]])
    """
    array = as_array("x", x)
    layout = layout_of_channels("x", array)
    known = read_stats(layout, stats, InstanceNormStats, "instance_norm_forward")
    expect_several("x", array)
    return gradients_of(layout, dy, array, known, Given(gamma, beta, None, activation), y, out)
