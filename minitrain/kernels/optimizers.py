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
    """A share of the vector in which all parameters have the settings of one group."""

    start: Any
    stop: Any
    group: Any


class GroupSettings(NamedTuple):
    """What a group has of its own, in float64."""

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
def piece_of(row):
    """A row of `pieces` by name."""
    return Piece(row[0], row[1], row[2])


@device
def settings_of(row):
    """A row of `settings` by name."""
    return GroupSettings(row[0], row[1], row[2], row[3])


@device
def shaping_of(number, clipping, piece, own):
    """The shaping of a piece whose group has these settings; `number` is the dtype of the arrays."""
    scale, limit = clipping
    return Shaping(number(scale), number(limit), piece.group != 0, number(own.l1), number(own.l2), number(0.0))


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
        piece = piece_of(pieces[k])
        own = settings_of(settings[piece.group])
        shaping, own_rate = shaping_of(number, clipping, piece, own), number(rate * own.factor)
        dw, w = grads[piece.start : piece.stop], params[piece.start : piece.stop]
        for i in range(w.size):
            w[i] -= own_rate * shaped(dw[i], w[i], shaping)


@kernel
def sgd_momentum(grads, pieces, settings, clipping, rate, momentum, nesterov, params, velocity):
    """v = momentum * v + g; w -= rate * factor * (g + momentum * v if nesterov else v). Overwrites params, velocity.

    From a zero velocity the first step gives v = g.
    """
    number = params.dtype.type
    momentum = number(momentum)
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces[k])
        own = settings_of(settings[piece.group])
        shaping, own_rate = shaping_of(number, clipping, piece, own), number(rate * own.factor)
        start, stop = piece.start, piece.stop
        dw, w, v = grads[start:stop], params[start:stop], velocity[start:stop]
        for i in range(w.size):
            parameter = w[i]  # read before anything is written: else the loop stays scalar
            g = shaped(dw[i], parameter, shaping)
            new = momentum * v[i] + g
            v[i] = new
            w[i] = parameter - own_rate * (g + momentum * new if nesterov else new)


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
        piece = piece_of(pieces[k])
        own = settings_of(settings[piece.group])
        shaping, own_rate = shaping_of(number, clipping, piece, own), number(corrected * own.factor)
        keep = number(1.0 - rate * own.factor * own.decay)
        start, stop = piece.start, piece.stop
        dw, w, m, v = grads[start:stop], params[start:stop], mean[start:stop], square[start:stop]
        for i in range(w.size):
            g = shaped(dw[i], w[i], shaping)
            kept = w[i] * keep
            m[i] += (g - m[i]) * new1
            v[i] = beta2 * v[i] + g * g * new2
            w[i] = kept - own_rate * m[i] / (math.sqrt(v[i]) * correction + eps)


@kernel
def rmsprop(grads, pieces, settings, clipping, rule, params, square, mean, velocity):
    """RMSprop. Overwrites params, square (size,), and mean and velocity where they are not empty.

    s = alpha * s + g^2 * new; where mean is given: m += (g - m) * new, and m^2 is taken from s;
    d = g / (sqrt(s) + eps); where velocity is given: v = momentum * v + d, and v is followed; w -= rate * factor * d.
    rule = (rate, alpha, new, eps, momentum). Where rounding would make s - m^2 negative it is held at 0.
    """
    number = params.dtype.type
    rate, alpha, new, eps, momentum = rule  # the rate stays float64 until a factor is in it
    alpha, new, eps, momentum, zero = number(alpha), number(new), number(eps), number(momentum), number(0.0)
    centered, with_momentum = mean.size > 0, velocity.size > 0
    for k in prange(pieces.shape[0]):
        piece = piece_of(pieces[k])
        own = settings_of(settings[piece.group])
        shaping, own_rate = shaping_of(number, clipping, piece, own), number(rate * own.factor)
        start, stop = piece.start, piece.stop
        dw, w, s = grads[start:stop], params[start:stop], square[start:stop]
        m, v = mean[start:stop], velocity[start:stop]
        for i in range(w.size):
            g = shaped(dw[i], w[i], shaping)
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
            w[i] -= own_rate * d
