"""y = [relu](gamma x_hat + beta [+ residual]) over rows with a scale and a shift for each element."""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.rows.cut import cut_of
from nbnorm.kernels.rows.moments import in_all_lanes, moments, row_factors
from nbnorm.simd.masks import load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, flat, stream
from nbnorm.simd.vectors import add, fma, lanes_of, load, maximum, splat, store, subtract


@device
def _normalized(given, i, j, factors, low):
    """A vector of the output: from element i on, with the parameters from j on."""
    x, residual, gamma, beta = given
    x_hat = fma(subtract(load(x, i), factors.center), factors.scale, factors.shift)
    v = fma(x_hat, load(gamma, j), load(beta, j))
    if residual.size > 0:
        v = add(v, load(residual, i))
    return maximum(low, v)


@device
def _normalize_part(given, y, i, j, rest, factors, low):
    """The first `rest` elements of a vector of the output."""
    x, residual, gamma, beta = given
    x_hat = fma(subtract(load_part(x, i, rest, factors.center), factors.center), factors.scale, factors.shift)
    v = fma(x_hat, load_part(gamma, j, rest, factors.center), load_part(beta, j, rest, factors.center))
    if residual.size > 0:
        v = add(v, load_part(residual, i, rest, factors.center))
    store_part(y, i, rest, maximum(low, v))


@device
def _normalize(given, y, first, own, length, factors, floor, streaming):
    """A row from element `first` on, with the parameters from `own` on.

    The last vector overlaps the one before it rather than be a part of one: it is computed first, because y may be x.
    """
    lanes, low, kept = lanes_of(y), splat(floor), in_all_lanes(factors)
    i, j, end = first, own, first + length
    if length < lanes:
        _normalize_part(given, y, i, j, length, kept, low)
        return
    if streaming:
        head = min(elements_to_boundary(y, i), length)
        if head > 0:
            _normalize_part(given, y, i, j, head, kept, low)
            i += head
            j += head
        while i + lanes <= end:
            stream(y, i, _normalized(given, i, j, kept, low))
            i += lanes
            j += lanes
        if i < end:
            _normalize_part(given, y, i, j, end - i, kept, low)
        return
    last = _normalized(given, end - lanes, own + length - lanes, kept, low)
    while i + lanes <= end:
        store(y, i, _normalized(given, i, j, kept, low))
        i += lanes
        j += lanes
    store(y, end - lanes, last)


@kernel
def forward(x, residual, gamma, beta, eps, row, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); not centered, mean is 0 and var mean(x^2).

    x, y: (rows, length, 1); residual like x, or empty; gamma, beta: (groups * length,); row: see `cut_of`. Written:
    mean (empty where it is not centered) and inv_std, float64 (rows,), and y.
    """
    cut = cut_of(row)
    rows, length, _ = x.shape
    for task in prange(-(-rows // cut.rows)):
        way = cut_of(row)
        given = flat(x), flat(residual), flat(gamma), flat(beta)
        means, inv_stds, result = flat(mean), flat(inv_std), flat(y)
        floor = x.dtype.type(0.0 if way.relu else np.nan)
        first = np.intp(task) * way.rows
        for k in range(first, min(first + way.rows, rows)):
            average, var = moments(given[0], rows, length, k, way.centered)
            inv = 1.0 / math.sqrt(var + eps)
            if way.centered:
                means[k] = average
            inv_stds[k] = inv
            factors = row_factors(given[0], average, inv)
            _normalize(given, result, k * length, k % way.groups * length, length, factors, floor, way.streaming)
