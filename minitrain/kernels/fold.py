"""Batch norm folded into the convolution before it, for inference."""

import math

from nbnorm._jit import kernel

__all__ = ["fold"]


@kernel
def fold(weight, bias, gamma, beta, running_mean, running_var, eps, folded_weight, folded_bias):
    """folded_weight = weight * s, folded_bias = (bias - running_mean) * s + beta, s = gamma / sqrt(running_var + eps).

    weight (K, C, kh, kw), the vectors (K,); bias (K,) or (0,) for none. Computed in float64, rounded once.
    """
    size = weight.shape[1] * weight.shape[2] * weight.shape[3]
    source, target = weight.reshape(-1), folded_weight.reshape(-1)
    for k in range(weight.shape[0]):
        scale = gamma[k] / math.sqrt(running_var[k] + eps)
        first = bias[k] if bias.size else 0.0
        folded_bias[k] = (first - running_mean[k]) * scale + beta[k]
        for i in range(k * size, (k + 1) * size):
            target[i] = source[i] * scale
