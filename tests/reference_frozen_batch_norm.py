"""Float64 NumPy twin of batch norm by given statistics, which its tests take to be the same for every x."""

import numpy as np
from reference_batch_norm import _axes, _wide, normalize

__all__ = ["backward", "differentiate", "forward", "running_statistics", "statistics"]


def running_statistics(channels, dtype="float64"):
    """Mean and variance of each channel: numbers that float32 has."""
    index = np.arange(channels)
    return (index % 7 * 0.25 - 0.75).astype(dtype), (0.5 + index % 5 * 0.25).astype(dtype)


def statistics(x):
    return running_statistics(x.shape[1])


def forward(x, gamma, beta, eps=1e-5, relu=False, residual=None):
    """y, mean, inv_std"""
    mean, var = statistics(x)
    return normalize(x, mean, var, gamma, beta, eps, relu, residual), mean, 1 / np.sqrt(var + eps)


def backward(dy, x, gamma, beta, eps=1e-5, relu=False, y=None):
    """dx, dgamma, dbeta, dresidual (the gradient behind the ReLU)"""
    return differentiate(dy, x, *statistics(x), gamma, beta, eps, relu, y)


def differentiate(dy, x, mean, var, gamma, beta, eps=1e-5, relu=False, y=None):
    """The same by any statistics."""
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    inv_std = _wide(1 / np.sqrt(np.asarray(var, np.float64) + eps), x)
    x_hat = (x - _wide(mean, x)) * inv_std
    g = dy
    if relu:
        output = x_hat * _wide(gamma, x) + _wide(beta, x) if y is None else y
        g = np.where(output <= 0, 0, dy)
    return _wide(gamma, x) * inv_std * g, (g * x_hat).sum(_axes(x)), g.sum(_axes(x)), g
