"""Losses: the mean over a batch, and its gradient in the same pass. All sums are float64.

The work is cut into at most CHUNKS pieces whose bounds follow from the shape; their sums are added in index order. An
empty `gradient` is not written. NaN and infinite inputs reach the result.
"""

import math

import numpy as np

from minitrain.kernels.exponential import exp
from nbnorm._jit import device, kernel, prange

CHUNKS = 32
LOG_FLOOR = -100.0  # of the logarithms of probabilities
PRODUCT_FLOOR = float(np.float32(1e-12))  # of p (1 - p), by which the gradient divides; rounded as in PyTorch


@device
def _ordered_sum(partial):
    total = 0.0
    for chunk in range(partial.size):
        total += partial[chunk]
    return total


@device
def _log_sum_exp(row):
    """Return (m, s) with log(sum(exp(row))) = m + log(s): m is the maximum, so that nothing overflows."""
    maximum = -np.inf
    for value in row:
        maximum = value if value > maximum else maximum
    total = 0.0
    for value in row:
        total += exp(np.float64(value) - maximum)
    return np.float64(maximum), total


@device
def _target(labels, probabilities, n, c, spread):
    """What class c keeps of its target (a probability, or 1 for the label) when `spread` of it goes to all classes."""
    given = np.float64(labels[n] == c) if labels.size > 0 else np.float64(probabilities[n, c])
    return (1.0 - spread) * given


@device
def _cross_entropy_of_row(row, labels, probabilities, n, smoothing, scale, gradient):
    classes = row.size
    maximum, total = _log_sum_exp(row)
    log_sum = maximum + math.log(total)
    each = smoothing / classes
    loss = 0.0
    weight = 0.0  # of all targets: 1, but for rounding in probabilities
    if labels.size > 0 and smoothing == 0.0:
        label = labels[n]
        weight = 1.0
        loss = log_sum - row[label] if 0 <= label < classes else np.nan
    else:
        for c in range(classes):
            target = _target(labels, probabilities, n, c, smoothing) + each
            weight += target
            loss += target * (log_sum - row[c])
    if gradient.size > 0:
        for c in range(classes):
            share = exp(np.float64(row[c]) - maximum) / total
            gradient[n, c] = (share * weight - _target(labels, probabilities, n, c, smoothing) - each) * scale
    return loss


@kernel
def softmax_cross_entropy(outputs, labels, probabilities, smoothing, gradient):
    """Mean over n of -sum_c target[n, c] log(softmax(outputs[n])[c]); gradient = (softmax - target) / N.

    outputs (N, C) are logits. Targets are labels (N,) or probabilities (N, C), the other one is empty; both are
    smoothed: (1 - smoothing) target + smoothing / C. A label that is no class gives NaN.
    """
    rows = outputs.shape[0]
    partial = np.zeros(CHUNKS)
    for chunk in prange(CHUNKS):
        total = 0.0
        for n in range(chunk * rows // CHUNKS, (chunk + 1) * rows // CHUNKS):
            total += _cross_entropy_of_row(outputs[n], labels, probabilities, n, smoothing, 1.0 / rows, gradient)
        partial[chunk] = total
    return _ordered_sum(partial) / rows


@device
def _squared_errors(outputs, targets, begin, end):
    total = 0.0
    for i in range(begin, end):
        difference = np.float64(outputs[i]) - np.float64(targets[i])
        total += difference * difference
    return total


@kernel
def mean_squared_error(outputs, targets, gradient):
    """Mean of (outputs - targets)^2; gradient = 2 (outputs - targets) / n; all of shape (n,)."""
    n = outputs.size
    partial = np.zeros(CHUNKS)
    for chunk in prange(CHUNKS):
        begin, end = chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS
        partial[chunk] = _squared_errors(outputs, targets, begin, end)
        if gradient.size > 0:
            for i in range(begin, end):
                gradient[i] = (np.float64(outputs[i]) - np.float64(targets[i])) * (2.0 / n)
    return _ordered_sum(partial) / n


@device
def _logit_loss(z, target):
    """-target log(s) - (1 - target) log(1 - s) for s = sigmoid(z), and its derivative."""
    tail = exp(-abs(z))  # in (0, 1]: no overflow
    loss = (0.0 if z < 0.0 else z) - z * target + math.log1p(tail)
    share = (tail if z < 0.0 else 1.0) / (1.0 + tail)
    return loss, share - target


@device
def _probability_loss(p, target):
    """-target log(p) - (1 - target) log(1 - p), and its derivative; both bounded for p in [0, 1]."""
    log_p, log_rest = np.log(p), np.log1p(-p)
    log_p = LOG_FLOOR if log_p < LOG_FLOOR else log_p
    log_rest = LOG_FLOOR if log_rest < LOG_FLOOR else log_rest
    product = p * (1.0 - p)
    product = PRODUCT_FLOOR if product < PRODUCT_FLOOR else product
    return -target * log_p - (1.0 - target) * log_rest, (p - target) / product


@kernel
def binary_cross_entropy(outputs, targets, from_logits, gradient):
    """Mean of -t log(p) - (1 - t) log(1 - p), and its gradient; all of shape (n,).

    outputs are p, or z with p = sigmoid(z) if `from_logits`. For p the logarithms are at least -100 and the divisor
    p (1 - p) of the gradient at least 1e-12; p outside [0, 1] gives NaN.
    """
    n = outputs.size
    partial = np.zeros(CHUNKS)
    for chunk in prange(CHUNKS):
        total = 0.0
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            value, target = np.float64(outputs[i]), np.float64(targets[i])
            if from_logits:
                loss, derivative = _logit_loss(value, target)
            else:
                loss, derivative = _probability_loss(value, target)
            total += loss
            if gradient.size > 0:
                gradient[i] = derivative / n
        partial[chunk] = total
    return _ordered_sum(partial) / n
