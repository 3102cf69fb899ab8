"""Float64 NumPy twins of the batch norm kernels: the formulas, written for reading, not for speed."""

import numpy as np


def _wide(values, like):
    """A per-channel vector, shaped to broadcast against (N, C, *spatial)."""
    return np.asarray(values, np.float64).reshape(1, -1, *[1] * (like.ndim - 2))


def _axes(x):
    return (0, *range(2, x.ndim))


def statistics(x):
    """Mean and biased variance of each channel."""
    x = np.asarray(x, np.float64)
    return x.mean(_axes(x)), x.var(_axes(x))


def forward(x, gamma, beta, eps=1e-5, relu=False, residual=None):
    """y, mean, inv_std"""
    mean, var = statistics(x)
    return normalize(x, mean, var, gamma, beta, eps, relu, residual), mean, 1 / np.sqrt(var + eps)


def normalize(x, mean, var, gamma, beta, eps=1e-5, relu=False, residual=None):
    x = np.asarray(x, np.float64)
    y = (x - _wide(mean, x)) / np.sqrt(_wide(var, x) + eps) * _wide(gamma, x) + _wide(beta, x)
    if residual is not None:
        y = y + residual
    return np.where(y <= 0, 0, y) if relu else y


def backward(dy, x, gamma, beta, eps=1e-5, relu=False, y=None):
    """dx, dgamma, dbeta, dresidual (the gradient behind the ReLU)"""
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    mean, var = statistics(x)
    inv_std = _wide(1 / np.sqrt(var + eps), x)
    x_hat = (x - _wide(mean, x)) * inv_std
    g = dy
    if relu:
        output = x_hat * _wide(gamma, x) + _wide(beta, x) if y is None else y
        g = np.where(output <= 0, 0, dy)
    axes, count = _axes(x), x.size / x.shape[1]
    dbeta, dgamma = g.sum(axes), (g * x_hat).sum(axes)
    dx = _wide(gamma, x) * inv_std * (g - _wide(dbeta, x) / count - x_hat * _wide(dgamma, x) / count)
    return dx, dgamma, dbeta, g
