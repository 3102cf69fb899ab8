"""Batch norm of a trained net as one multiplication and one addition for each channel."""

import math

from nbnorm.jit import kernel

__all__ = ["fold"]


@kernel
def fold(bias, gamma, beta, running_mean, running_var, eps, scale, shift):
    """scale = gamma / sqrt(running_var + eps), shift = (bias - running_mean) * scale + beta, all (K,).

    The batch norm of x + bias is scale * x + shift. bias may be (0,) for none. Computed in float64, rounded once.
    """
    for k in range(gamma.size):
        factor = gamma[k] / math.sqrt(running_var[k] + eps)
        first = bias[k] if bias.size else 0.0
        scale[k] = factor
        shift[k] = (first - running_mean[k]) * factor + beta[k]
