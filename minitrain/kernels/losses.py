"""Losses: the mean over a batch, and its gradient in the same pass. All sums are float64.

The work is cut into at most CHUNKS pieces whose bounds follow from the shape; their sums are added in index order. An
empty `gradient` is not written. NaN and infinite inputs reach the result. In NumPy::

    def softmax_cross_entropy(outputs, probabilities, smoothing):
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        rows, classes = outputs.shape
        targets = (1 - smoothing) * probabilities + smoothing / classes
        return -(targets * np.log(shares)).sum() / rows, (shares - targets) / rows

The kernel takes the exponentials of several rows at once, as most rows have fewer classes than a vector has lanes; the
logarithm of a sum instead of logarithms; and labels as they are, without a row of ones and zeros for each.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.exponentials import exp, exponential
from nbnorm.simd.memory import borrowed, flat, item, store_item
from nbnorm.simd.vectors import LANES_FLOAT64, lanes_of, load, store

# Pieces of a batch, each of which one thread sums: more would not be better shared by up to 32 threads, and there are
# partial sums to add; fewer leave threads idle.
CHUNKS = 32
# Logits whose exponentials are taken in one loop, where a row has no more: 24 vectors of 4 float64 or 12 of 8. More do
# not stay in the level 1 cache beside the rows, fewer waste lanes at the end of each loop.
BLOCK = 96
LOG_FLOOR = -100.0  # of the logarithms of probabilities, as in PyTorch
PRODUCT_FLOOR = float(np.float32(1e-12))  # of p (1 - p), by which the gradient divides; rounded as in PyTorch


class Targets(NamedTuple):
    """Labels (N,), or probabilities (N * C,) if those are empty, smoothed: `smoothing` of each goes to all classes."""

    labels: Any
    probabilities: Any
    smoothing: float


class Row(NamedTuple):
    """A row of logits whose exponentials were taken: they are values[begin:], of the sum `total`."""

    outputs: Any
    first: int  #: of outputs, and of the gradient
    classes: int
    values: Any
    begin: int
    total: float
    log_sum: float


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
def _largest(outputs, row, classes):
    """The largest of outputs[row : row + classes], NaN left out unless it is the first."""
    largest = item(outputs, row)
    for c in range(1, classes):
        value = item(outputs, row + c)
        largest = value if value > largest else largest
    return np.float64(largest)


@device
def _exponentials(outputs, first, rows, classes, values, largest):
    """Write exp(z - m), m the largest of its row so that nothing overflows, for rows from the `first` on.

    values has as much room behind them as a vector.
    """
    for r in range(rows):
        row = (first + r) * classes
        m = _largest(outputs, row, classes)
        store_item(largest, r, m)
        for c in range(classes):
            store_item(values, r * classes + c, np.float64(item(outputs, row + c)) - m)
    for i in range(0, rows * classes, lanes_of(values)):  # of all rows together: most have fewer classes than lanes
        store(values, i, exponential(load(values, i)))


@device
def _target(targets, n, classes, c):
    """What is left of the target of class c (a probability, or 1 for the label) after smoothing took its part."""
    labels, probabilities, smoothing = targets
    given = np.float64(labels[n] == c) if labels.size > 0 else np.float64(probabilities[n * classes + c])
    return (1.0 - smoothing) * given


@device
def _loss_of_label(row, label, scale, gradient):
    """The loss of a row, and its gradient."""
    known = 0 <= label < row.classes
    if gradient.size > 0:
        factor = scale / row.total
        for c in range(row.classes):
            store_item(gradient, row.first + c, gradient.dtype.type(item(row.values, row.begin + c) * factor))
        if known:
            gradient[row.first + label] = (row.values[row.begin + label] / row.total - 1.0) * scale
    return row.log_sum - np.float64(row.outputs[row.first + label]) if known else np.nan


@device
def _loss_of_targets(row, targets, n, scale, gradient):
    """The loss of row n, and its gradient."""
    each = targets.smoothing / row.classes
    loss = 0.0
    weight = 0.0  # of all targets: 1, but for rounding in probabilities
    for c in range(row.classes):
        target = _target(targets, n, row.classes, c) + each
        weight += target
        loss += target * (row.log_sum - row.outputs[row.first + c])
    if gradient.size > 0:
        for c in range(row.classes):
            share = row.values[row.begin + c] / row.total
            target = _target(targets, n, row.classes, c) + each
            gradient[row.first + c] = (share * weight - target) * scale
    return loss


@device
def _cross_entropy_of_rows(outputs, targets, gradient, shape, first, count, values, largest):
    """The loss of `count` rows from the `first` on, and their gradient; values and largest are working space."""
    rows, classes = shape
    _exponentials(outputs, first, count, classes, values, largest)
    loss = 0.0
    for r in range(count):
        n, begin = first + r, r * classes
        total = 0.0
        for c in range(classes):
            total += item(values, begin + c)
        row = Row(outputs, n * classes, classes, values, begin, total, item(largest, r) + math.log(total))
        if targets.labels.size > 0 and targets.smoothing == 0.0:
            loss += _loss_of_label(row, targets.labels[n], 1.0 / rows, gradient)
        else:
            loss += _loss_of_targets(row, targets, n, 1.0 / rows, gradient)
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
    logits, into = flat(outputs), flat(gradient)
    targets = Targets(borrowed(labels), flat(probabilities), smoothing)
    for chunk in prange(chunks):
        k = np.intp(chunk)
        begin, end = k * rows // chunks, (k + 1) * rows // chunks
        room = np.empty(block * (classes + 1) + LANES_FLOAT64)
        largest, values = borrowed(room[:block]), borrowed(room[block:])
        total = 0.0
        for first in range(begin, end, block):
            count = min(block, end - first)
            total += _cross_entropy_of_rows(logits, targets, into, shape, first, count, values, largest)
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
