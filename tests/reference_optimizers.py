"""float64 NumPy twin of every optimizer kernel, written from the formulas of the papers in PyTorch's conventions."""

import math

import numpy as np


def shaped_gradients(optimizer, params, grads, mask):
    """Gradients after the norm, the clipping and the penalties; mask is True where penalties apply."""
    g = grads.astype(np.float64)
    if optimizer.clip_norm is not None:
        g = g * min(1.0, optimizer.clip_norm / (np.sqrt(np.sum(g * g)) + 1e-6))
    if optimizer.clip_value is not None:
        g = np.clip(g, -optimizer.clip_value, optimizer.clip_value)
    return g + mask * (optimizer.l2 * params + optimizer.l1 * np.sign(params))


def sgd(optimizer, params, g, slots, step, mask):
    rate = optimizer.learning_rate_at(step)
    if optimizer.momentum == 0:
        return params - rate * g
    slots["velocity"] = velocity = optimizer.momentum * slots["velocity"] + g
    return params - rate * (g + optimizer.momentum * velocity if optimizer.nesterov else velocity)


def adam(optimizer, params, g, slots, step, mask):
    rate = optimizer.learning_rate_at(step)
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    decayed = params * (1 - rate * getattr(optimizer, "weight_decay", 0.0) * mask)
    slots["mean"] = beta1 * slots["mean"] + (1 - beta1) * g
    slots["square"] = beta2 * slots["square"] + (1 - beta2) * g**2
    mean = slots["mean"] / (1 - beta1 ** (step + 1))
    square = slots["square"] / (1 - beta2 ** (step + 1))
    return decayed - rate * mean / (np.sqrt(square) + optimizer.eps)


def rmsprop(optimizer, params, g, slots, step, mask):
    rate, alpha = optimizer.learning_rate_at(step), optimizer.alpha
    slots["square"] = variance = alpha * slots["square"] + (1 - alpha) * g**2
    if optimizer.centered:
        slots["mean"] = alpha * slots["mean"] + (1 - alpha) * g
        variance = variance - slots["mean"] ** 2
    direction = g / (np.sqrt(np.maximum(variance, 0)) + optimizer.eps)
    if optimizer.momentum > 0:
        slots["velocity"] = direction = optimizer.momentum * slots["velocity"] + direction
    return params - rate * direction


RULES = {"SGD": sgd, "Adam": adam, "AdamW": adam, "RMSprop": rmsprop}


def update(optimizer, params, grads, slots, step, mask):
    """The new parameters; slots (float64) are replaced in the dictionary."""
    g = shaped_gradients(optimizer, params, grads, mask)
    return RULES[type(optimizer).__name__](optimizer, params, g, slots, step, mask)


def sum_of_squares(grads):
    return math.fsum(float(g) ** 2 for g in grads)
