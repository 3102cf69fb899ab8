"""Optimizer steps: one pass over the flat vector of all parameters for clipping, penalties, moments and the update.

Every kernel takes `pieces`, int64 (n, 3): start, stop and group, and `settings`, float64 (groups, 4): l1, l2, weight
decay and the factor of the learning rate of each group. Group 0 has none of them. What no piece covers is frozen: it
is neither read nor written. The pieces are the unit of parallel work and depend on the shapes and the groups alone; all
arithmetic is elementwise, so bits never depend on the threads. `clipping` = (scale, limit) and the penalties turn a raw
gradient into the one that is followed, see `shaped`. Scalars come as Python's and are rounded once to the dtype of the
arrays: float32 stays float32. In NumPy, SGD is::

    g = np.clip(gradients * scale, -limit, limit) + l2 * params + l1 * np.sign(params)
    params -= rate * factor * g

with l1, l2 and factor by the group of each parameter, and the other rules stand in the docstrings of their kernels.
Each is one loop that reads and writes every array once, where NumPy would make as many passes as there are operations.
"""

import math
from typing import Any, NamedTuple

from nbnorm.jit import device, kernel, prange

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]


class Piece(NamedTuple):
    """A share of the vector and the settings of its group, these in float64."""

    start: Any
    stop: Any
    penalized: Any
    l1: Any
    l2: Any
    decay: Any
    factor: Any


class Shaping(NamedTuple):
    """What is done to a gradient before a rule follows it, in the dtype of the arrays."""

    scale: Any
    limit: Any
    penalized: Any
    l1: Any
    l2: Any
    zero: Any


@device
def piece_of(pieces, settings, k):
    """Piece k with the settings of its group."""
    group = pieces[k, 2]
    l1, l2, decay, factor = settings[group, 0], settings[group, 1], settings[group, 2], settings[group, 3]
    return Piece(pieces[k, 0], pieces[k, 1], group != 0, l1, l2, decay, factor)


@device
def shaping_of(number, clipping, piece):
    """The shaping of a piece; `number` is the dtype of the arrays."""
    scale, limit = clipping
    return Shaping(number(scale), number(limit), piece.penalized, number(piece.l1), number(piece.l2), number(0.0))


@device
def shaped(gradient, parameter, shaping):
    """clip(gradient * scale, -limit, limit) + l2 * parameter + l1 * sign(parameter); NaN stays NaN

    In group 0 the penalties are those of a parameter of 0: an infinite one does not spoil its gradient. All choices are
    between values: with branches, loops over this stay scalar in the serial form of some kernels, which takes four
    times as long.
    """
    zero = shaping.zero
    g = gradient * shaping.scale
    g = shaping.limit if g > shaping.limit else g
    g = -shaping.limit if g < -shaping.limit else g
    w = parameter if shaping.penalized else zero
    sign = shaping.l1 if w > zero else zero
    sign = -shaping.l1 if w < zero else sign
    return g + shaping.l2 * w + sign


@kernel
def sgd(grads, pieces, settings, clipping, rate, params):
    """w -= rate * factor * g. Overwrites params (size,)."""
    number = params.dtype.type
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces, settings, k)
        shaping, piece_rate = shaping_of(number, clipping, piece), number(rate * piece.factor)
        dw, w = grads[piece.start : piece.stop], params[piece.start : piece.stop]
        for i in range(w.size):
            w[i] -= piece_rate * shaped(dw[i], w[i], shaping)


@kernel
def sgd_momentum(grads, pieces, settings, clipping, rate, momentum, nesterov, params, velocity):
    """v = momentum * v + g; w -= rate * factor * (g + momentum * v if nesterov else v). Overwrites params, velocity.

    From a zero velocity the first step gives v = g.
    """
    number = params.dtype.type
    momentum = number(momentum)
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces, settings, k)
        shaping, piece_rate = shaping_of(number, clipping, piece), number(rate * piece.factor)
        start, stop = piece.start, piece.stop
        dw, w, v = grads[start:stop], params[start:stop], velocity[start:stop]
        for i in range(w.size):
            parameter = w[i]  # read before anything is written: else the loop stays scalar
            g = shaped(dw[i], parameter, shaping)
            new = momentum * v[i] + g
            v[i] = new
            w[i] = parameter - piece_rate * (g + momentum * new if nesterov else new)


@kernel
def adam(grads, pieces, settings, clipping, rule, params, mean, square):
    """Adam and AdamW. Overwrites params, mean, square (size,).

    w *= 1 - rate * factor * decay; m += (g - m) * new1; v = beta2 * v + g^2 * new2;
    w -= corrected * factor * m / (sqrt(v) * correction + eps),
    with rule = (rate, new1, beta2, new2, corrected, correction, eps).
    """
    number = params.dtype.type
    rate, new1, beta2, new2, corrected, correction, eps = rule  # the rates stay float64 until a factor is in them
    new1, beta2, new2 = number(new1), number(beta2), number(new2)
    correction, eps = number(correction), number(eps)
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces, settings, k)
        shaping, piece_rate = shaping_of(number, clipping, piece), number(corrected * piece.factor)
        keep = number(1.0 - rate * piece.factor * piece.decay)
        start, stop = piece.start, piece.stop
        dw, w, m, v = grads[start:stop], params[start:stop], mean[start:stop], square[start:stop]
        for i in range(w.size):
            g = shaped(dw[i], w[i], shaping)
            kept = w[i] * keep
            m[i] += (g - m[i]) * new1
            v[i] = beta2 * v[i] + g * g * new2
            w[i] = kept - piece_rate * m[i] / (math.sqrt(v[i]) * correction + eps)


@kernel
def rmsprop(grads, pieces, settings, clipping, rule, params, square, mean, velocity):
    """RMSprop. Overwrites params, square (size,), and mean and velocity where they are not empty.

    s = alpha * s + g^2 * new; where mean is given: m += (g - m) * new, and m^2 is taken from s;
    d = g / (sqrt(s) + eps); where velocity is given: v = momentum * v + d, and v is followed; w -= rate * factor * d.
    rule = (rate, alpha, new, eps, momentum). Where rounding would make s - m^2 negative it is held at 0.
    """
    number = params.dtype.type
    rate, alpha, new, eps, momentum = rule  # the rate stays float64 until a factor is in it
    alpha, new, eps, momentum = number(alpha), number(new), number(eps), number(momentum)
    centered, with_momentum = mean.size > 0, velocity.size > 0
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces, settings, k)
        shaping = shaping_of(number, clipping, piece)
        rounded = number(rate * piece.factor), alpha, new, eps, momentum
        start, stop = piece.start, piece.stop
        dw, w, s = grads[start:stop], params[start:stop], square[start:stop]
        m, v = mean[start:stop], velocity[start:stop]
        if centered or with_momentum:
            _rmsprop_piece(dw, w, s, m, v, shaping, rounded, centered, with_momentum)
        else:
            _rmsprop_piece(dw, w, s, m, v, shaping, rounded, False, False)


@device
def _rmsprop_piece(dw, w, s, m, v, shaping, rounded, centered, with_momentum):
    """One piece. The loop is vectorized where the last two are constants; with choices of them it stays scalar."""
    rate, alpha, new, eps, momentum = rounded
    zero = shaping.zero
    for i in range(w.size):
        parameter = w[i]  # read before anything is written: else the loop stays scalar
        g = shaped(dw[i], parameter, shaping)
        variance = alpha * s[i] + g * g * new
        s[i] = variance
        if centered:
            average = m[i] + (g - m[i]) * new
            m[i] = average
            variance -= average * average
            variance = zero if variance < zero else variance
        d = g / (math.sqrt(variance) + eps)
        if with_momentum:
            d = momentum * v[i] + d
            v[i] = d
        w[i] = parameter - rate * d
