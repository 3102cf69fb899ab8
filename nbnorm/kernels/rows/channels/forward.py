"""y = max(gamma x_hat + beta [+ residual], floor) over rows of channels with a scale, a shift and a floor for each."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.cut import cut_of
from nbnorm.kernels.rows.moments import in_all_lanes, moments
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, flat, item, stream
from nbnorm.simd.vectors import add, fma, lanes_of, load, maximum, splat, store, subtract

__all__ = ["channel_factors", "floor_of", "normalize_channel"]


@device
def channel_factors(x, mean, inv_std, gamma, beta, c):
    """Factors of channel c in a row of this mean: y = (x - center) * scale + shift. As `statistics.factors`."""
    as_values = x.dtype.type
    center = as_values(mean)
    scale = item(gamma, c) * inv_std
    return Factors(center, as_values(scale), as_values(item(beta, c) - (mean - float(center)) * scale))


@device
def floor_of(x, tau, c, relu):
    """What the output of channel c does not fall below; NaN: nothing."""
    return item(tau, c) if tau.size > 0 else x.dtype.type(0.0 if relu else np.nan)


@device
def _normalized(x, residual, i, factors, low):
    v = fma(subtract(load(x, i), factors.center), factors.scale, factors.shift)
    if residual.size > 0:
        v = add(v, load(residual, i))
    return maximum(low, v)


@device
def _normalize_part(x, residual, y, i, rest, factors, low):
    v = fma(subtract(load_part(x, i, rest, factors.center), factors.center), factors.scale, factors.shift)
    if residual.size > 0:
        v = add(v, load_part(residual, i, rest, factors.center))
    store_part(y, i, rest, maximum(low, v))


@device
def normalize_channel(x, residual, y, first, length, factors, floor, streaming):
    """A channel of a row. The last vector overlaps the one before it: it is computed first, because y may be x."""
    lanes, low, kept = lanes_of(x), splat(floor), in_all_lanes(factors)
    i, end = first, first + length
    if length < lanes:
        _normalize_part(x, residual, y, i, length, kept, low)
        return
    if streaming:
        head = min(elements_to_boundary(y, i), length)
        if head > 0:
            _normalize_part(x, residual, y, i, head, kept, low)
            i += head
        while i + lanes <= end:
            stream(y, i, _normalized(x, residual, i, kept, low))
            i += lanes
        if i < end:
            _normalize_part(x, residual, y, i, end - i, kept, low)
        return
    last = _normalized(x, residual, end - lanes, kept, low)
    while i + lanes <= end:
        store(y, i, _normalized(x, residual, i, kept, low))
        i += lanes
    store(y, end - lanes, last)


@kernel
def forward(x, residual, gamma, beta, tau, eps, row, mean, inv_std, y):
    """y = max(gamma (x - mean) / sqrt(var + eps) + beta [+ residual], tau); not centered, mean is 0 and var mean(x^2).

    x, y: (rows, channels of a row, length); residual like x, or empty; gamma, beta: (C,); tau: (C,), or empty; row: see
    `cut_of`. Written: mean (empty where it is not centered) and inv_std, float64 (rows,), and y.
    """
    cut = cut_of(row)
    rows, channels, length = x.shape
    for task in prange(-(-rows // cut.rows)):
        way = cut_of(row)
        xs, added, result, means, inv_stds = flat(x), flat(residual), flat(y), flat(mean), flat(inv_std)
        gammas, betas, taus = flat(gamma), flat(beta), flat(tau)
        first = np.intp(task) * way.rows
        for k in range(first, min(first + way.rows, rows)):
            average, var = moments(xs, rows, channels * length, k, way.centered)
            inv = 1.0 / math.sqrt(var + eps)
            if way.centered:
                means[k] = average
            inv_stds[k] = inv
            own = k % way.groups * channels
            for c in range(channels):
                factors = channel_factors(xs, average, inv, gammas, betas, own + c)
                floor = floor_of(xs, taus, own + c, way.relu)
                normalize_channel(xs, added, result, (k * channels + c) * length, length, factors, floor, way.streaming)
