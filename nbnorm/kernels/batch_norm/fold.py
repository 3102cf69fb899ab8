"""Batch norm by given statistics as one multiplication and one addition for each channel."""

import math

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.kernels.runs import CENTER, SCALE, SHIFT
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.memory import flat
from nbnorm.simd.vectors import LANES_FLOAT32

__all__ = ["fixed_factors", "fold", "fold_weight", "normalization_shape", "scale_of", "write_normalization"]


@device
def scale_of(gamma, var, eps, c):
    """gamma / sqrt(var + eps) of channel c, in float64."""
    return gamma[c] / math.sqrt(var[c] + eps)


@device
def fixed_factors(affine, given, eps, c, as_values):
    """Factors of channel c by given statistics, (mean, var), in the type of the values."""
    gamma, beta = affine
    mean, var = given
    scale = scale_of(gamma, var, eps, c)
    center = as_values(mean[c])
    rounded = 0.0 if center == mean[c] else mean[c] - center  # statistics may be float64
    return Factors(center, as_values(scale), as_values(beta[c] - rounded * scale))


@kernel
def fold(bias, gamma, beta, running_mean, running_var, eps, scale, shift):
    """scale = gamma / sqrt(running_var + eps), shift = (bias - running_mean) * scale + beta, all (K,).

    The batch norm of x + bias is scale * x + shift. bias may be (0,) for none. Computed in float64, rounded once.
    """
    for k in range(gamma.size):
        factor = scale_of(gamma, running_var, eps, k)
        first = bias[k] if bias.size else 0.0
        scale[k] = factor
        shift[k] = (first - running_mean[k]) * factor + beta[k]


@kernel
def fold_weight(weight, scale, folded):
    """folded[k] = weight[k] * scale[k], of the shape (K, C / groups, kh, kw); computed in float64, rounded once."""
    source, target = flat(weight), flat(folded)
    size = weight.size // max(weight.shape[0], 1)
    for k in prange(weight.shape[0]):
        for i in range(k * size, (k + 1) * size):
            target[i] = source[i] * scale[k]


def normalization_shape(channels: int) -> tuple[int, int]:
    """Shape of what `write_normalization` writes: a row of whole vectors for each kind of factor."""
    return 4, -(-channels // LANES_FLOAT32) * LANES_FLOAT32


@kernel
def write_normalization(mean, inv_std, gamma, beta, normalization):
    """Overwrite normalization, which stands for x -> max((x - mean) * inv_std * gamma + beta, 0) in each channel.

    mean and inv_std (C,) in float64, gamma and beta (C,). The values are computed as batch norm's own kernels do.
    """
    for c in range(normalization.shape[1]):
        factors = normalization[:, c]
        factors[:] = 0
        if c < mean.size:
            factors[CENTER], factors[SCALE], factors[SHIFT] = statistics.factors(mean, inv_std, gamma, beta, c)
