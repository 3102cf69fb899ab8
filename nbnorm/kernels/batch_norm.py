"""Batch normalization on (N, C, L) arrays: arrays in, arrays out, no checks."""

import math

from nbnorm._jit import kernel, prange


@kernel
def forward(x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, mean, inv_std, y):
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); the running statistics move."""
    images, channels, length = x.shape
    count = images * length
    for c in prange(channels):
        total = 0.0
        for n in range(images):
            for i in range(length):
                total += x[n, c, i]
        m = total / count
        squares = 0.0
        for n in range(images):
            for i in range(length):
                d = x[n, c, i] - m
                squares += d * d
        mean[c] = m
        inv_std[c] = 1.0 / math.sqrt(squares / count + eps)
        if running_mean.size > 0:
            running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * m
        if running_var.size > 0:
            running_var[c] = (1.0 - momentum) * running_var[c] + momentum * (squares / max(count - 1, 1))
        scale = gamma[c] * inv_std[c]
        for n in range(images):
            for i in range(length):
                v = (x[n, c, i] - m) * scale + beta[c]
                if residual.size > 0:
                    v += residual[n, c, i]
                y[n, c, i] = 0.0 if relu and v <= 0.0 else v


@kernel
def infer(x, residual, gamma, beta, running_mean, running_var, eps, relu, y):
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual])"""
    images, channels, length = x.shape
    for c in prange(channels):
        m = running_mean[c]
        scale = gamma[c] / math.sqrt(running_var[c] + eps)
        for n in range(images):
            for i in range(length):
                v = (x[n, c, i] - m) * scale + beta[c]
                if residual.size > 0:
                    v += residual[n, c, i]
                y[n, c, i] = 0.0 if relu and v <= 0.0 else v


@kernel
def backward(dy, x, y, mean, inv_std, gamma, beta, relu, residual_given, dx, dgamma, dbeta, dresidual):
    """Gradients of `forward`. With g = dy where the ReLU passed: dbeta = sum g, dgamma = sum g x_hat,
    dx = gamma inv_std (g - dbeta / n - x_hat dgamma / n), dresidual = g. An empty dx or dresidual is not written."""
    images, channels, length = x.shape
    count = images * length
    for c in prange(channels):
        m = mean[c]
        scale = gamma[c] * inv_std[c]
        total = 0.0
        product = 0.0
        for n in range(images):
            for i in range(length):
                g = dy[n, c, i]
                if relu:
                    v = y[n, c, i] if residual_given else (x[n, c, i] - m) * scale + beta[c]
                    if v <= 0.0:
                        g = 0.0 * g
                if dresidual.size > 0:
                    dresidual[n, c, i] = g
                total += g
                product += g * (x[n, c, i] - m)
        dbeta[c] = total
        dgamma[c] = product * inv_std[c]
        if dx.size > 0:
            a = total / count
            b = product / count * inv_std[c] ** 2
            for n in range(images):
                for i in range(length):
                    g = dy[n, c, i]
                    if relu:
                        v = y[n, c, i] if residual_given else (x[n, c, i] - m) * scale + beta[c]
                        if v <= 0.0:
                            g = 0.0 * g
                    dx[n, c, i] = scale * (g - a - (x[n, c, i] - m) * b)
