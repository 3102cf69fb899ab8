"""Losses: the mean over a batch, and its gradient in the same pass. All sums are float64.

The work is cut into at most CHUNKS pieces whose bounds follow from the shape; their sums are added in index order. An
empty `gradient` is not written. NaN and infinite inputs reach the result.
"""

import math

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.exponentials import exp, exponential
from nbnorm.simd.memory import borrowed, flat, item, store_item
from nbnorm.simd.vectors import LANES_FLOAT64, lanes_of, load, store

CHUNKS = 32
BLOCK = 96  # logits whose exponentials are taken in one loop, where a row has no more
LOG_FLOOR = -100.0  # of the logarithms of probabilities
PRODUCT_FLOOR = float(np.float32(1e-12))  # of p (1 - p), by which the gradient divides; rounded as in PyTorch


@kernel
def labels_fit(labels, classes):
    """Whether all labels (N,), int64, are from 0 to classes - 1."""
    wrong = 0
    for n in range(labels.size):
        wrong += labels[n] < 0 or labels[n] >= classes
    return wrong == 0


@device
def _ordered_sum(partial):
    total = 0.0
    for chunk in range(partial.size):
        total += partial[chunk]
    return total


@device
def _largest(outputs, at, classes):
    """The largest of outputs[at : at + classes], NaN left out unless it is the first."""
    largest = item(outputs, at)
    for c in range(1, classes):
        value = item(outputs, at + c)
        largest = value if value > largest else largest
    return np.float64(largest)


@device
def _exponentials(outputs, first, rows, classes, values, largest):
    """Write exp(z - m), m the largest of its row so that nothing overflows, for rows from the `first` on.

    values has as much room behind them as a vector.
    """
    for r in range(rows):
        at = (first + r) * classes
        m = _largest(outputs, at, classes)
        store_item(largest, r, m)
        for c in range(classes):
            store_item(values, r * classes + c, np.float64(item(outputs, at + c)) - m)
    for i in range(0, rows * classes, lanes_of(values)):  # of all rows together: most have fewer classes than lanes
        store(values, i, exponential(load(values, i)))


@device
def _target(labels, probabilities, n, classes, c, spread):
    """What class c keeps of its target (a probability, or 1 for the label) when `spread` of it goes to all classes."""
    given = np.float64(labels[n] == c) if labels.size > 0 else np.float64(probabilities[n * classes + c])
    return (1.0 - spread) * given


@device
def _loss_of_label(outputs, log_sum, values, begin, total, label, at, classes, scale, gradient):
    """The loss of a row, and its gradient."""
    known = 0 <= label < classes
    if gradient.size > 0:
        factor = scale / total
        for c in range(classes):
            store_item(gradient, at + c, gradient.dtype.type(item(values, begin + c) * factor))
        if known:
            gradient[at + label] = (values[begin + label] / total - 1.0) * scale
    return log_sum - np.float64(outputs[at + label]) if known else np.nan


@device
def _loss_of_targets(
    outputs, log_sum, values, begin, total, labels, probabilities, n, classes, smoothing, scale, gradient
):
    """The loss of row n, and its gradient."""
    at, each = n * classes, smoothing / classes
    loss = 0.0
    weight = 0.0  # of all targets: 1, but for rounding in probabilities
    for c in range(classes):
        target = _target(labels, probabilities, n, classes, c, smoothing) + each
        weight += target
        loss += target * (log_sum - outputs[at + c])
    if gradient.size > 0:
        for c in range(classes):
            share = values[begin + c] / total
            target = _target(labels, probabilities, n, classes, c, smoothing) + each
            gradient[at + c] = (share * weight - target) * scale
    return loss


@device
def _cross_entropy_of_rows(outputs, labels, probabilities, smoothing, gradient, shape, first, count, values, largest):
    """The loss of `count` rows from the `first` on, and their gradient; values and largest are working space."""
    rows, classes = shape
    _exponentials(outputs, first, count, classes, values, largest)
    loss = 0.0
    for r in range(count):
        n, begin = first + r, r * classes
        total = 0.0
        for c in range(classes):
            total += item(values, begin + c)
        log_sum = item(largest, r) + math.log(total)
        if labels.size > 0 and smoothing == 0.0:
            loss += _loss_of_label(
                outputs, log_sum, values, begin, total, labels[n], n * classes, classes, 1.0 / rows, gradient
            )
        else:
            loss += _loss_of_targets(
                outputs, log_sum, values, begin, total, labels, probabilities, n, classes, smoothing, 1.0 / rows,
                gradient,
            )  # fmt: skip
    return loss


@kernel
def softmax_cross_entropy(outputs, labels, probabilities, smoothing, gradient):
    """Mean over n of -sum_c target[n, c] log(softmax(outputs[n])[c]); gradient = (softmax - target) / N.

    outputs (N, C) are logits. Targets are labels (N,) or probabilities (N, C), the other one is empty; both are
    smoothed: (1 - smoothing) target + smoothing / C. A label that is no class gives NaN.
    """
    rows, classes = shape = outputs.shape
    block = max(1, BLOCK // classes)  # rows at a time
    chunks = min(CHUNKS, -(-rows // block))
    partial = np.zeros(chunks)
    logits, of_label, of_class, into = flat(outputs), borrowed(labels), flat(probabilities), flat(gradient)
    for chunk in prange(chunks):
        k = np.intp(chunk)
        begin, end = k * rows // chunks, (k + 1) * rows // chunks
        room = np.empty(block * (classes + 1) + LANES_FLOAT64)
        largest, values = borrowed(room[:block]), borrowed(room[block:])
        total = 0.0
        for first in range(begin, end, block):
            count = min(block, end - first)
            total += _cross_entropy_of_rows(
                logits, of_label, of_class, smoothing, into, shape, first, count, values, largest
            )
        room[0] = total  # a use of it after what was borrowed from it: it is freed after its last use
        partial[k] = room[0]
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
