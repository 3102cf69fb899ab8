"""What the backward passes of batch norm by given statistics have in common.

    dx = gamma / sqrt(var + eps) g, dgamma = sum g (x - mean) / sqrt(var + eps), dbeta = sum g, dresidual = g

The statistics do not follow x, so dx needs none of the sums: where neither dgamma nor dbeta is wanted, dy is read once.
x is read for dgamma, and to see what the ReLU cut off unless y says it. In NumPy::

    def frozen(dy, x, y, mean, var, gamma, eps):
        g, inv_std = np.where(y > 0, dy, 0), 1 / np.sqrt(var + eps)
        dgamma, dbeta = (g * (x - mean[:, None])).sum((0, 2)) * inv_std, g.sum((0, 2))
        return (gamma * inv_std)[:, None] * g, dgamma, dbeta, g
"""

import numpy as np

from nbnorm.jit import device
from nbnorm.kernels import statistics
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import borrowed
from nbnorm.simd.vectors import fma, gate, load, multiply, splat, store, subtract

__all__ = ["borrowed_pair", "mended", "pass_on_full", "pass_on_part", "store_sums", "wants_sums"]


@device
def borrowed_pair(pair):
    """Views of two arrays that do not count references."""
    return borrowed(pair[0]), borrowed(pair[1])


@device
def wants_sums(gradients):
    """Whether the gradient of gamma or that of beta is wanted."""
    return gradients.dgamma.size + gradients.dbeta.size > 0


@device
def mended(sums, gated, channel, factors):
    """The sums of g and of g (x - center), each computed anew in float64 where it overflowed or a NaN came.

    One that is sound stays as it is: dbeta has the same bits whether dgamma is wanted or not.
    """
    total, product = sums
    if -np.inf < total < np.inf and -np.inf < product < np.inf:
        return total, product
    new_total, new_product = statistics.gradient_sums(gated, channel, factors)
    total = total if -np.inf < total < np.inf else new_total
    product = product if -np.inf < product < np.inf else new_product
    return total, product


@device
def store_sums(gradients, c, total, product, deviation):
    """dgamma and dbeta of channel c, those that are wanted; `deviation` is sqrt(var + eps)."""
    if gradients.dgamma.size > 0:
        gradients.dgamma[c] = product / deviation
    if gradients.dbeta.size > 0:
        gradients.dbeta[c] = total


@device
def pass_on_full(gated, gradients, i, factors, low, keeps):
    """dx and, where `keeps` says so, dresidual of a vector. x is read only where it says what was cut off."""
    g = load(gated.dy, i)
    if gated.floor == gated.floor:
        if gated.by_output:
            g = gate(load(gated.y, i), low, g)
        else:
            g = gate(fma(subtract(load(gated.x, i), factors.center), factors.scale, factors.shift), low, g)
    if keeps and gradients.dresidual.size > 0:
        store(gradients.dresidual, i, g)
    if gradients.dx.size > 0:
        store(gradients.dx, i, multiply(factors.scale, g))


@device
def pass_on_part(gated, gradients, i, rest, factors, low, keeps):
    """The same of the first lanes of a vector."""
    zero = splat(gated.dy.dtype.type(0))
    g = load_part(gated.dy, i, rest, zero)
    if gated.floor == gated.floor:
        if gated.by_output:
            g = gate(load_part(gated.y, i, rest, zero), low, g)
        else:
            d = subtract(load_part(gated.x, i, rest, factors.center), factors.center)
            g = gate(fma(d, factors.scale, factors.shift), low, g)
    if keeps and gradients.dresidual.size > 0:
        store_part(gradients.dresidual, i, rest, g)
    if gradients.dx.size > 0:
        store_part(gradients.dx, i, rest, multiply(factors.scale, g))
