"""Optimizer steps: one pass over the flat vector of all parameters for clipping, penalties, moments and the update.

Every kernel takes `pieces`, int64 (n, 3): start, stop, and 1 where the penalties apply. The pieces are the unit of
parallel work and depend on the shapes alone; all arithmetic is elementwise, so bits never depend on the threads.
`shaping` = (scale, limit, l1, l2) turns a raw gradient into the one that is followed, see `shaped`. Scalars come as
Python's and are rounded once to the dtype of the arrays: float32 stays float32. In NumPy, SGD is::

    g = np.clip(gradients * scale, -limit, limit) + penalized * (l2 * params + l1 * np.sign(params))
    params -= rate * g

and the other rules stand in the docstrings of their kernels. Each is one loop that reads and writes every array once,
where NumPy would make as many passes as there are operations.
"""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import borrowed
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, fma, lanes_of, load, splat

__all__ = ["adam", "all_finite", "rmsprop", "sgd", "sgd_momentum", "sum_of_squares"]

# Elements of a partial sum: fewer take less time than a thread needs to begin them, more leave threads idle for the few
# ten thousand parameters of a small net. Found with `benchmarks.peers training-step`, 4-core Xeon, AVX-512, 2026-11.
CHUNK = 8192
# Running sums side by side: 8 vectors of 8 float64, enough to hide how long an addition takes. More do not fit the
# registers. The number decides the order of the sum: another one gives other bits.
LANES = 64


@device
def shaped(gradient, parameter, shaping, penalized):
    """clip(gradient * scale, -limit, limit) + l2 * parameter + l1 * sign(parameter); NaN stays NaN

    Where the penalties do not apply they are those of a parameter of 0. All choices are between values: with branches,
    loops over this stay scalar in the serial form of some kernels, which takes four times as long.
    """
    scale, limit, l1, l2, zero = shaping
    g = gradient * scale
    g = limit if g > limit else g
    g = -limit if g < -limit else g
    w = parameter if penalized else zero
    sign = l1 if w > zero else zero
    sign = -l1 if w < zero else sign
    return g + l2 * w + sign


@device
def _shaping_in(number, shaping):
    """The same numbers in a type, and a zero of it."""
    scale, limit, l1, l2 = shaping
    return number(scale), number(limit), number(l1), number(l2), number(0.0)


@kernel
def all_finite(values):
    """Whether no value is infinite or a NaN: zero times them gives zeros, whose sum is none otherwise."""
    values = borrowed(values)
    chunks = -(-values.size // CHUNK)
    sums = np.zeros(chunks, values.dtype)
    for k in prange(chunks):
        sums[k] = _sum_of_zeros(values, k * CHUNK, min((k + 1) * CHUNK, values.size))
    total = 0.0
    for k in range(chunks):
        total += sums[k]
    return total == 0.0


@device
def _sum_of_zeros(values, begin, end):
    lanes = lanes_of(values)
    zero = splat(values.dtype.type(0))
    a = b = c = d = zero
    i = begin
    while i + 4 * lanes <= end:
        a = fma(load(values, i), zero, a)
        b = fma(load(values, i + lanes), zero, b)
        c = fma(load(values, i + 2 * lanes), zero, c)
        d = fma(load(values, i + 3 * lanes), zero, d)
        i += 4 * lanes
    while i < end:
        a = fma(load_between(values, i, 0, end - i), zero, a)
        i += lanes
    return sum_lanes(add(add(a, b), add(c, d)))


@kernel
def sum_of_squares(grads):
    """Sum of g^2 in float64: LANES sums side by side in each chunk, added in a fixed order.

    The lanes are in memory so that the loop over them is elementwise: LLVM vectorizes it without reordering a sum.
    """
    chunks = -(-grads.size // CHUNK)
    sums = np.zeros((chunks, LANES))
    for k in prange(chunks):
        chunk, lanes = grads[k * CHUNK : min((k + 1) * CHUNK, grads.size)], sums[k]
        whole = chunk.size // LANES
        rows = chunk[: whole * LANES].reshape(whole, LANES)
        for i in range(whole):
            row = rows[i]
            for j in range(LANES):
                lanes[j] += np.float64(row[j]) * np.float64(row[j])
        rest = chunk[whole * LANES :]
        for j in range(rest.size):
            lanes[j] += np.float64(rest[j]) * np.float64(rest[j])
        for i in range(8, LANES, 8):
            for j in range(8):
                lanes[j] += lanes[i + j]
    total = 0.0
    for k in range(chunks):
        for j in range(8):
            total += sums[k, j]
    return total


@kernel
def sgd(grads, pieces, shaping, rate, params):
    """w -= rate * g. Overwrites params (size,)."""
    number = params.dtype.type
    shaping, rate = _shaping_in(number, shaping), number(rate)
    for k in prange(pieces.shape[0]):
        start, stop, penalized = pieces[k, 0], pieces[k, 1], pieces[k, 2] != 0
        dw, w = grads[start:stop], params[start:stop]
        for i in range(w.size):
            w[i] -= rate * shaped(dw[i], w[i], shaping, penalized)


@kernel
def sgd_momentum(grads, pieces, shaping, rate, momentum, nesterov, params, velocity):
    """v = momentum * v + g; w -= rate * (g + momentum * v if nesterov else v). Overwrites params, velocity (size,).

    From a zero velocity the first step gives v = g.
    """
    number = params.dtype.type
    shaping, rate, momentum = _shaping_in(number, shaping), number(rate), number(momentum)
    for k in prange(pieces.shape[0]):
        start, stop, penalized = pieces[k, 0], pieces[k, 1], pieces[k, 2] != 0
        dw, w, v = grads[start:stop], params[start:stop], velocity[start:stop]
        for i in range(w.size):
            parameter = w[i]  # read before anything is written: else the loop stays scalar
            g = shaped(dw[i], parameter, shaping, penalized)
            new = momentum * v[i] + g
            v[i] = new
            w[i] = parameter - rate * (g + momentum * new if nesterov else new)


@kernel
def adam(grads, pieces, shaping, rule, params, mean, square):
    """Adam and AdamW. Overwrites params, mean, square (size,).

    w *= keep where penalized; m += (g - m) * new1; v = beta2 * v + g^2 * new2;
    w -= rate * m / (sqrt(v) * correction + eps), with rule = (keep, new1, beta2, new2, rate, correction, eps).
    """
    number = params.dtype.type
    shaping = _shaping_in(number, shaping)
    keep, new1, beta2, new2 = number(rule[0]), number(rule[1]), number(rule[2]), number(rule[3])
    rate, correction, eps = number(rule[4]), number(rule[5]), number(rule[6])
    for k in prange(pieces.shape[0]):
        start, stop, penalized = pieces[k, 0], pieces[k, 1], pieces[k, 2] != 0
        dw, w, m, v = grads[start:stop], params[start:stop], mean[start:stop], square[start:stop]
        for i in range(w.size):
            g = shaped(dw[i], w[i], shaping, penalized)
            kept = w[i] * keep if penalized else w[i]
            m[i] += (g - m[i]) * new1
            v[i] = beta2 * v[i] + g * g * new2
            w[i] = kept - rate * m[i] / (math.sqrt(v[i]) * correction + eps)


@kernel
def rmsprop(grads, pieces, shaping, rule, params, square, mean, velocity):
    """RMSprop. Overwrites params, square (size,), and mean and velocity where they are not empty.

    s = alpha * s + g^2 * new; where mean is given: m += (g - m) * new, and m^2 is taken from s;
    d = g / (sqrt(s) + eps); where velocity is given: v = momentum * v + d, and v is followed; w -= rate * d.
    rule = (rate, alpha, new, eps, momentum). Where rounding would make s - m^2 negative it is held at 0.
    """
    number = params.dtype.type
    shaping = _shaping_in(number, shaping)
    rate, alpha, new = number(rule[0]), number(rule[1]), number(rule[2])
    eps, momentum, zero = number(rule[3]), number(rule[4]), number(0.0)
    centered, with_momentum = mean.size > 0, velocity.size > 0
    for k in prange(pieces.shape[0]):
        start, stop, penalized = pieces[k, 0], pieces[k, 1], pieces[k, 2] != 0
        dw, w, s, m, v = (
            grads[start:stop],
            params[start:stop],
            square[start:stop],
            mean[start:stop],
            velocity[start:stop],
        )
        for i in range(w.size):
            g = shaped(dw[i], w[i], shaping, penalized)
            s[i] = alpha * s[i] + g * g * new
            variance = s[i]
            if centered:
                m[i] += (g - m[i]) * new
                variance -= m[i] * m[i]
                if variance < 0:
                    variance = zero
            d = g / (math.sqrt(variance) + eps)
            if with_momentum:
                v[i] = momentum * v[i] + d
                d = v[i]
            w[i] -= rate * d
