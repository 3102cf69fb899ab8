"""Weight standardization as a user calls it."""

from typing import Any, NamedTuple

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch
from nbnorm.layout import as_array
from nbnorm.row_layout import RowLayout, layout_of_filters
from nbnorm.row_norms import Given, NormGradients, forward, gradients_of, number_of, read_stats

__all__ = ["WeightStandardizationStats", "weight_standardization_backward", "weight_standardization_forward"]


class WeightStandardizationStats(NamedTuple):
    """What `weight_standardization_forward` found in the filters, and its backward pass needs."""

    mean: Array  #: float64 (out,)
    inv_std: Array  #: float64 (out,): 1 / sqrt(biased variance + eps)


def weight_standardization_forward(
    w: Any, gamma: Any = None, *, eps: float = 1e-6, out: Any = None
) -> tuple[Any, WeightStandardizationStats]:
    """Standardize each filter of a convolution or dense layer that is followed by a norm.

    ``gamma * (w - mean) / sqrt(var + eps)``, where `mean` and the biased `var` are taken over all axes but the first.

    Parameters
    ----------
    w : array (out, ...), float32 or float64
        Output channels first: (out, in, kh, kw) or (out, in), with at least two weights a filter.
    gamma : array (out,) of w's dtype, optional
        A gain for each filter; scaled weight standardization has ``gain / sqrt(fan_in)`` there.
    eps : float
        Added to the variance.
    out : array like w, optional
        Written into and returned. It may be `w` itself.

    Returns
    -------
    standardized : array like w
    stats : WeightStandardizationStats
        Mean and inverse standard deviation, float64 (out,).

    Notes
    -----
    Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019. The authors'
    code has the unbiased variance and adds 1e-5 to its root; the variance of a filter with n weights differs by the
    factor n / (n - 1), which the norm that follows takes away.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> standardized, stats = nbnorm.weight_standardization_forward(np.array([[1.0, 3.0], [2.0, 6.0]]), eps=0.0)
    >>> standardized
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    array = as_array("w", w)
    layout = _layout_of(array)
    y, mean, inv_std = forward(layout, array, Given(gamma), number_of(eps), None, out)
    return y, WeightStandardizationStats(mean, inv_std)


def weight_standardization_backward(
    dy: Any, w: Any, stats: WeightStandardizationStats, gamma: Any = None, *, out: Any = None
) -> NormGradients:
    """Gradients of `weight_standardization_forward`.

    Parameters
    ----------
    dy : array like w
        Gradient of the loss with respect to the standardized weights.
    w, gamma
        As in the forward pass.
    stats : WeightStandardizationStats
        As `weight_standardization_forward` returned it.
    out : array like w, or a tuple (dx, dgamma, None, None) of arrays, optional
        Arrays to write into and return. dx may be `dy` or `w` itself.

    Returns
    -------
    NormGradients
        dx, the gradient with respect to `w`, and dgamma (None without gamma); dbeta and dresidual are None.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> w = np.array([[1.0, 2.0, 6.0]])
    >>> _, stats = nbnorm.weight_standardization_forward(w)
    >>> nbnorm.weight_standardization_backward(np.array([[1.0, 0.0, 0.0]]), w, stats).dx.round(4)
    array([[ 0.1763, -0.2204,  0.0441]])
    """
    array = as_array("w", w)
    layout = _layout_of(array)
    known = read_stats(layout, stats, WeightStandardizationStats, "weight_standardization_forward")
    return gradients_of(layout, dy, array, known, Given(gamma), None, out)


def _layout_of(array: Array) -> RowLayout:
    layout = layout_of_filters("w", array)
    if layout.view[2] < 2 and array.size:
        raise ValueError(mismatch("w", "at least 2 weights in a filter", f"shape {array.shape}"))
    return layout
