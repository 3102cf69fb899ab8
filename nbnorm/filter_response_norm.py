"""Filter response normalization with its thresholded linear unit as a user calls it."""

from typing import Any, NamedTuple

from nbnorm.jit.arrays import Array
from nbnorm.layout import as_array
from nbnorm.row_layout import expect_several, layout_of_channels
from nbnorm.row_norms import Given, backward, forward, number_of, parts_of, read_stats

__all__ = [
    "FilterResponseNormGradients",
    "FilterResponseNormStats",
    "filter_response_norm_backward",
    "filter_response_norm_forward",
]


class FilterResponseNormStats(NamedTuple):
    """What `filter_response_norm_forward` found in the channels of each sample; its backward pass needs it."""

    inv_rms: Array  #: float64 (N, C): 1 / sqrt(mean of squares + eps)


class FilterResponseNormGradients(NamedTuple):
    """What `filter_response_norm_backward` returns."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dtau: Any


def filter_response_norm_forward(
    x: Any, gamma: Any, beta: Any, tau: Any, *, eps: float = 1e-6, out: Any = None
) -> tuple[Any, FilterResponseNormStats]:
    """Divide each channel of each sample by the root of the mean of its squares, then cut off below a threshold.

    ``y = max(gamma * x / sqrt(mean(x**2) + eps) + beta, tau)``, with the mean over all axes but the first two.

    Parameters
    ----------
    x : array (N, C, *spatial), float32 or float64
        With at least two values in a channel: of one, only the sign would be left.
    gamma, beta, tau : array (C,) of x's dtype
        Scale, shift and threshold of each channel; the paper begins with ones, zeros and zeros.
    eps : float
        Added to the mean of squares.
    out : array like x, optional
        Written into and returned. It may be `x` itself.

    Returns
    -------
    y : array like x
    stats : FilterResponseNormStats
        The inverse roots, float64 (N, C).

    Notes
    -----
    Singh and Krishnan, "Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep
    Neural Networks", 2019.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x, zero = np.array([[[1.0, -7.0]]]), np.zeros(1)
    >>> y, stats = nbnorm.filter_response_norm_forward(x, np.ones(1), zero, zero, eps=0.0)
    >>> y
    array([[[0.2, 0. ]]])
    """
    array = as_array("x", x)
    layout = layout_of_channels("x", array)
    expect_several("x", array)
    y, _, inv_rms = forward(layout, array, Given(gamma, beta, _there(tau), None, False), number_of(eps), None, out)
    return y, FilterResponseNormStats(inv_rms)


def filter_response_norm_backward(
    dy: Any, x: Any, stats: FilterResponseNormStats, gamma: Any, beta: Any, tau: Any, *, out: Any = None
) -> FilterResponseNormGradients:
    """Gradients of `filter_response_norm_forward`.

    With ``x_hat = x * inv_rms``, g = dy where the output is above tau, else 0, and h = gamma * g:
    ``dbeta = sum(g)``, ``dgamma = sum(g * x_hat)`` and ``dtau = sum(dy - g)`` over all but the channels,
    ``dx = inv_rms * (h - x_hat * mean(h * x_hat))`` with the mean of each channel of a sample.

    Parameters
    ----------
    dy : array like x
        Gradient of the loss with respect to the output.
    stats : FilterResponseNormStats
        As `filter_response_norm_forward` returned it.
    x, gamma, beta, tau
        As in the forward pass.
    out : array like x, or a tuple (dx, dgamma, dbeta, dtau) of arrays, optional
        Arrays to write into and return: dx alone, or several of them with None in the place of those to be made. dx may
        be `dy` or `x` itself.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> x, zero = np.array([[[1.0, -7.0]]]), np.zeros(1)
    >>> y, stats = nbnorm.filter_response_norm_forward(x, np.ones(1), zero, zero, eps=0.0)
    >>> nbnorm.filter_response_norm_backward(np.ones((1, 1, 2)), x, stats, np.ones(1), zero, zero)
    FilterResponseNormGradients(dx=array([[[0.196, 0.028]]]), dgamma=array([0.2]), dbeta=array([1.]), dtau=array([1.]))
    """
    array = as_array("x", x)
    layout = layout_of_channels("x", array)
    known = read_stats(layout, stats, FilterResponseNormStats, "filter_response_norm_forward")
    expect_several("x", array)
    parts = (*parts_of(out, "(dx, dgamma, dbeta, dtau)"), None)
    given = Given(gamma, beta, _there(tau), None, False)
    dx, dgamma, dbeta, dtau, _ = backward(layout, dy, array, known, given, None, parts)
    return FilterResponseNormGradients(dx, dgamma, dbeta, dtau)


def _there(tau: Any) -> Any:
    """`tau`, which must be an array: None would mean that there is no threshold."""
    return as_array("tau", tau)
