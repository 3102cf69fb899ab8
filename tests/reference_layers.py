"""Float64 NumPy twins of the kernels of pooling, activations, dropout and losses, written for clarity alone."""

import numpy as np
from scipy import special


def leaky_relu(x, slope=0.0):
    y = np.where(x > 0, x, slope * x if slope else 0.0 * np.nan_to_num(x, posinf=0, neginf=0))
    return np.where(np.isnan(x), x, y)


def leaky_relu_backward(dy, x, slope=0.0):
    return np.where(x <= 0, slope * dy, dy)


def capped_relu(x, top):
    return np.where(np.isnan(x), x, np.clip(x, 0, top))


def capped_relu_backward(dy, x, top):
    return np.where((x <= 0) | (x >= top), 0, dy)


def sigmoid(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1.0) / (1.0 + np.exp(-np.abs(x)))


def prelu(x, weight):
    """x (N, C, L), weight (C,)"""
    return np.where(x > 0, x, weight[:, None] * x)


def prelu_backward(dy, x, weight):
    dx = np.where(x > 0, dy, weight[:, None] * dy)
    return dx, np.where(x > 0, 0.0, dy * x).sum(axis=(0, 2))


def windows(shape, geometry):
    """Yield (row, column) of each output and the slices of x that its window covers; x is (P, H, W)."""
    kh, kw, sh, sw, ph, pw = geometry
    _, height, width = shape
    for row in range((height + 2 * ph - kh) // sh + 1):
        for column in range((width + 2 * pw - kw) // sw + 1):
            top, left = row * sh - ph, column * sw - pw
            yield row, column, slice(max(top, 0), min(top + kh, height)), slice(max(left, 0), min(left + kw, width))


def pooled_shape(shape, geometry):
    kh, kw, sh, sw, ph, pw = geometry
    return shape[0], (shape[1] + 2 * ph - kh) // sh + 1, (shape[2] + 2 * pw - kw) // sw + 1


def max_pool(x, geometry):
    y = np.empty(pooled_shape(x.shape, geometry))
    for row, column, rows, columns in windows(x.shape, geometry):
        y[:, row, column] = x[:, rows, columns].max(axis=(1, 2))
    return y


def max_pool_backward(dy, x, geometry):
    """The first of equal elements, row by row, gets the gradient."""
    dx = np.zeros(x.shape)
    for row, column, rows, columns in windows(x.shape, geometry):
        for plane in range(len(x)):
            window = x[plane, rows, columns]
            i, j = np.unravel_index(window.argmax(), window.shape)
            dx[plane, rows.start + i, columns.start + j] += dy[plane, row, column]
    return dx


def average_pool(x, geometry, count_padding):
    y = np.empty(pooled_shape(x.shape, geometry))
    for row, column, rows, columns in windows(x.shape, geometry):
        window = x[:, rows, columns]
        count = geometry[0] * geometry[1] if count_padding else window[0].size
        y[:, row, column] = window.sum(axis=(1, 2)) / count
    return y


def average_pool_backward(dy, x, geometry, count_padding):
    dx = np.zeros(x.shape)
    for row, column, rows, columns in windows(x.shape, geometry):
        window = dx[:, rows, columns]
        count = geometry[0] * geometry[1] if count_padding else window[0].size
        window += dy[:, row, column][:, None, None] / count
    return dx


def silu(x):
    """x times its sigmoid."""
    return x * special.expit(x)


def silu_backward(dy, x):
    """dy times the derivative of silu at x."""
    s = special.expit(x)
    return dy * s * (1 + x * (1 - s))


def split_mix(z):
    """Output function of SplitMix64 on an array of uint64."""
    z = np.asarray(z, np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def dropout_keeps(size, key, call, p):
    """Which elements dropout keeps."""
    weyl = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        stream = split_mix(split_mix(np.uint64(key)) ^ (np.uint64(call) * weyl))
        draws = split_mix(stream + np.arange(1, size + 1, dtype=np.uint64) * weyl) >> np.uint64(11)
    return draws.astype(np.float64) >= np.floor(p * 2.0**53)


def softmax_cross_entropy(z, targets):
    """targets (N, C); returns the mean loss and its gradient."""
    shifted = z - z.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = (np.exp(log_softmax) * targets.sum(axis=1, keepdims=True) - targets) / len(z)
    return -(targets * log_softmax).sum() / len(z), gradient


def smooth(labels, classes, smoothing):
    """One-hot rows of labels, smoothed."""
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
