"""Activations on flat arrays, and PReLU and the copies of Concat. All activations overwrite every element of y or dx.

Comparisons are written so that NaN comes through: `0 if x <= 0 else x`, never `x if x > 0 else 0`.
"""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.exponentials import logistic, tangent
from nbnorm.simd.masks import load_between, store_part
from nbnorm.simd.memory import borrowed, flat
from nbnorm.simd.vectors import fma, lanes_of, load, multiply, splat, store, subtract

# Elements of a task of a parallel loop: fewer take less time than a thread needs to begin them, more leave threads idle
# on small arrays. Found with `benchmarks.peers training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
BLOCK = 8192
COSTLY_BLOCK = 2048  # the same where each element takes an exponential, as long as four others


@kernel
def leaky_relu(x, slope, y):
    """y = x where x > 0, slope x elsewhere; shapes (n,). A slope of 0 is ReLU: -inf gives 0, NaN stays NaN."""
    zero = x.dtype.type(0)
    factor = x.dtype.type(slope)
    relu = slope == 0
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        source = x[block * BLOCK : (block + 1) * BLOCK]
        target = y[block * BLOCK : (block + 1) * BLOCK]
        if relu:
            for i in range(source.size):
                target[i] = zero if source[i] <= zero else source[i]
        else:
            for i in range(source.size):
                target[i] = source[i] if source[i] > zero else factor * source[i]


@kernel
def leaky_relu_backward(dy, sign, slope, dx):
    """dx = slope dy where sign <= 0, dy elsewhere; shapes (n,). `sign` is x, or y where it has the sign of x."""
    zero = dy.dtype.type(0)
    factor = dy.dtype.type(slope)
    for block in prange((dy.size + BLOCK - 1) // BLOCK):
        gradient = dy[block * BLOCK : (block + 1) * BLOCK]
        signs = sign[block * BLOCK : (block + 1) * BLOCK]
        target = dx[block * BLOCK : (block + 1) * BLOCK]
        for i in range(gradient.size):
            target[i] = factor * gradient[i] if signs[i] <= zero else gradient[i]


@kernel
def capped_relu(x, top, y):
    """y = min(max(x, 0), top); shapes (n,). NaN stays NaN."""
    zero, most = x.dtype.type(0), x.dtype.type(top)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        source = x[block * BLOCK : (block + 1) * BLOCK]
        target = y[block * BLOCK : (block + 1) * BLOCK]
        for i in range(source.size):
            above = zero if source[i] <= zero else source[i]
            target[i] = most if above >= most else above


@kernel
def capped_relu_backward(dy, y, top, dx):
    """dx = 0 where y <= 0 or y >= top, dy elsewhere; shapes (n,). y may be x."""
    zero, most = dy.dtype.type(0), dy.dtype.type(top)
    for block in prange((dy.size + BLOCK - 1) // BLOCK):
        gradient = dy[block * BLOCK : (block + 1) * BLOCK]
        value = y[block * BLOCK : (block + 1) * BLOCK]
        target = dx[block * BLOCK : (block + 1) * BLOCK]
        for i in range(gradient.size):
            target[i] = zero if (value[i] <= zero) | (value[i] >= most) else gradient[i]


@device
def sigmoid_span(x, y, begin, end):
    """y[begin : end] = sigmoid(x[begin : end]); y may be x."""
    lanes = lanes_of(x)
    whole = begin + (end - begin) // lanes * lanes
    for i in range(begin, whole, lanes):
        store(y, i, logistic(load(x, i)))
    if whole < end:
        store_part(y, whole, end - whole, logistic(load_between(x, whole, 0, end - whole)))


@kernel
def sigmoid(x, y):
    """y = 1 / (1 + exp(-x)); shapes (n,)."""
    x, y = borrowed(x), borrowed(y)
    for block in prange((x.size + COSTLY_BLOCK - 1) // COSTLY_BLOCK):
        sigmoid_span(x, y, np.intp(block) * COSTLY_BLOCK, min((np.intp(block) + 1) * COSTLY_BLOCK, x.size))


@kernel
def sigmoid_backward(dy, y, dx):
    """dx = dy y (1 - y); shapes (n,)."""
    one = y.dtype.type(1)
    for block in prange((dy.size + BLOCK - 1) // BLOCK):
        gradient = dy[block * BLOCK : (block + 1) * BLOCK]
        value = y[block * BLOCK : (block + 1) * BLOCK]
        target = dx[block * BLOCK : (block + 1) * BLOCK]
        for i in range(gradient.size):
            target[i] = gradient[i] * (value[i] * (one - value[i]))


@device
def silu_span(x, y, begin, end):
    """y[begin : end] = x sigmoid(x) of the same elements."""
    lanes = lanes_of(x)
    whole = begin + (end - begin) // lanes * lanes
    for i in range(begin, whole, lanes):
        v = load(x, i)
        store(y, i, multiply(v, logistic(v)))
    if whole < end:
        v = load_between(x, whole, 0, end - whole)
        store_part(y, whole, end - whole, multiply(v, logistic(v)))


@kernel
def silu(x, y):
    """y = x s with s = 1 / (1 + exp(-x)); shapes (n,)."""
    x, y = borrowed(x), borrowed(y)
    for block in prange((x.size + COSTLY_BLOCK - 1) // COSTLY_BLOCK):
        silu_span(x, y, np.intp(block) * COSTLY_BLOCK, min((np.intp(block) + 1) * COSTLY_BLOCK, x.size))


@device
def _silu_gradient(g, v, one):
    """g s (1 + v (1 - s)) for the sigmoid s of v."""
    s = logistic(v)
    return multiply(g, multiply(s, fma(v, subtract(one, s), one)))


@device
def silu_gradient_span(dy, x, dx, begin, end):
    """dx[begin : end] from the same elements of dy and x."""
    lanes, one = lanes_of(x), splat(x.dtype.type(1))
    whole = begin + (end - begin) // lanes * lanes
    for i in range(begin, whole, lanes):
        store(dx, i, _silu_gradient(load(dy, i), load(x, i), one))
    if whole < end:
        rest = end - whole
        g, v = load_between(dy, whole, 0, rest), load_between(x, whole, 0, rest)
        store_part(dx, whole, rest, _silu_gradient(g, v, one))


@kernel
def silu_backward(dy, x, dx):
    """dx = dy s (1 + x (1 - s)) with s = 1 / (1 + exp(-x)); shapes (n,)."""
    dy, x, dx = borrowed(dy), borrowed(x), borrowed(dx)
    for block in prange((x.size + COSTLY_BLOCK - 1) // COSTLY_BLOCK):
        begin = np.intp(block) * COSTLY_BLOCK
        silu_gradient_span(dy, x, dx, begin, min(begin + COSTLY_BLOCK, x.size))


@device
def tanh_span(x, y, begin, end):
    """y[begin : end] = tanh(x[begin : end]); y may be x."""
    lanes = lanes_of(x)
    whole = begin + (end - begin) // lanes * lanes
    for i in range(begin, whole, lanes):
        store(y, i, tangent(load(x, i)))
    if whole < end:
        store_part(y, whole, end - whole, tangent(load_between(x, whole, 0, end - whole)))


@kernel
def tanh(x, y):
    """y = tanh(x); shapes (n,)."""
    x, y = borrowed(x), borrowed(y)
    for block in prange((x.size + COSTLY_BLOCK - 1) // COSTLY_BLOCK):
        tanh_span(x, y, np.intp(block) * COSTLY_BLOCK, min((np.intp(block) + 1) * COSTLY_BLOCK, x.size))


@kernel
def tanh_backward(dy, y, dx):
    """dx = dy (1 - y^2); shapes (n,)."""
    one = y.dtype.type(1)
    for block in prange((dy.size + BLOCK - 1) // BLOCK):
        gradient = dy[block * BLOCK : (block + 1) * BLOCK]
        value = y[block * BLOCK : (block + 1) * BLOCK]
        target = dx[block * BLOCK : (block + 1) * BLOCK]
        for i in range(gradient.size):
            target[i] = gradient[i] * (one - value[i] * value[i])


@kernel
def prelu(x, weight, y):
    """y = x where x > 0, weight[c] x elsewhere; x and y (N, C, L), weight (C,)."""
    images, channels, length = x.shape
    zero = x.dtype.type(0)
    values, results = flat(x), flat(y)
    for row in prange(images * channels):
        source = values[row * length : (row + 1) * length]
        target = results[row * length : (row + 1) * length]
        slope = weight[row % channels]
        for i in range(source.size):
            target[i] = source[i] if source[i] > zero else slope * source[i]


@kernel
def prelu_backward(dy, x, weight, partial, dx, dweight):
    """dx = dy where x > 0, weight[c] dy elsewhere; dweight[c] = sum of dy x where x <= 0.

    dy, x and dx (N, C, L); weight and dweight (C,); partial (N, C), float64, is working space. An empty dx or dweight
    is not written.
    """
    images, channels, length = x.shape
    zero = x.dtype.type(0)
    gradients, values, results = flat(dy), flat(x), flat(dx)
    for row in prange(images * channels):
        gradient = gradients[row * length : (row + 1) * length]
        source = values[row * length : (row + 1) * length]
        if results.size > 0:
            target = results[row * length : (row + 1) * length]
            slope = weight[row % channels]
            for i in range(source.size):
                target[i] = gradient[i] if source[i] > zero else slope * gradient[i]
        if dweight.size > 0:
            total = 0.0
            for i in range(source.size):
                total += 0.0 if source[i] > zero else np.float64(gradient[i]) * np.float64(source[i])
            # Not through a flat view: Numba drops a write at the loop's own index to an array that nobody reads later.
            partial[row // channels, row % channels] = total
    for c in range(dweight.size):
        total = 0.0
        for n in range(images):
            total += partial[n, c]
        dweight[c] = total


@kernel
def copy_columns(source, source_start, width, target, target_start):
    """Copy columns: target[:, target_start + i] = source[:, source_start + i] for i < width; shapes (rows, *)."""
    rows, source_width = source.shape
    target_width = target.shape[1]
    values, results = flat(source), flat(target)
    for row in prange(rows):
        read = values[row * source_width + source_start : (row + 1) * source_width]
        written = results[row * target_width + target_start : (row + 1) * target_width]
        for i in range(width):
            written[i] = read[i]
