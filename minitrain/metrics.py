"""Metrics: functions of the net's outputs and the targets that return one float, for `Trainer(metrics=...)`.

Outputs are logits or probabilities: (N, K) for K > 1 classes, or (N, 1) or (N,) for two classes. Targets are integer
labels (N,) or (N, 1), or one-hot rows or probabilities (N, K), of which the largest is the class. Any object with a
`__name__` that is called in this way is a metric; the mean over all examples must be the mean over batches weighted
by their sizes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from minitrain.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, mismatch

__all__ = ["BinaryAccuracy", "TopK", "accuracy", "accuracy_of", "top_k_accuracy"]


def accuracy(outputs: Array, targets: Array) -> float:
    """Return the fraction of examples whose largest output is that of the target's class.

    A single output per example is a logit of class 1, which is predicted above 0; for probabilities there use
    `BinaryAccuracy(threshold=0.5)`. Rows of equal outputs count as class 0; a row with a NaN is wrong.

    Parameters
    ----------
    outputs : array (N, K), (N, 1) or (N,)
        Logits, or probabilities where K > 1.
    targets : array (N,), (N, 1) or (N, K)
        Integer labels in [0, K), or one-hot rows or probabilities.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is not a class, or there are no examples.

    Examples
    --------
    >>> import numpy as np
    >>> accuracy(np.array([[0.1, 2.0], [3.0, 1.0]]), np.array([1, 1]))
    0.5
    """
    outputs, labels = _examples(outputs, targets)
    if outputs.shape[1] == 1:
        return BinaryAccuracy()(outputs, targets)
    return float(np.mean((outputs.argmax(axis=1) == labels) & ~np.isnan(outputs).any(axis=1)))


def top_k_accuracy(outputs: Array, targets: Array, k: int = 5) -> float:
    """Return the fraction of examples whose target class is among the k largest outputs.

    Of equal outputs the lower class comes first, so that a tie is never a lucky one. Arguments and errors as for
    `accuracy`; k is at least 1 and at most K.

    Examples
    --------
    >>> import numpy as np
    >>> top_k_accuracy(np.array([[0.1, 2.0, 1.0], [3.0, 1.0, 2.0]]), np.array([2, 1]), k=2)
    0.5
    """
    outputs, labels = _examples(outputs, targets)
    if not 1 <= k <= outputs.shape[1]:
        raise ValueError(mismatch("k", f"1 to {outputs.shape[1]} classes", k))
    mine = np.take_along_axis(outputs, labels[:, None], axis=1)
    before = np.arange(outputs.shape[1]) < labels[:, None]
    ahead = (outputs > mine) | ((outputs == mine) & before)
    return float(np.mean((ahead.sum(axis=1) < k) & ~np.isnan(outputs).any(axis=1)))


class TopK:
    """`top_k_accuracy` for a fixed k, as a metric with the name `top_<k>`."""

    def __init__(self, k: int = 5) -> None:
        self.k = k = expect_integer("k", k, 1)
        self.__name__ = f"top_{k}"

    def __call__(self, outputs: Array, targets: Array) -> float:
        return top_k_accuracy(outputs, targets, self.k)

    def __repr__(self) -> str:
        return f"TopK({self.k})"


class BinaryAccuracy:
    """Fraction of examples on the right side of `threshold`: 0 for logits, 0.5 for probabilities.

    outputs (N,), (N, 1): class 1 is predicted above the threshold. targets (N,), (N, 1): 0 and 1 (probabilities: 1
    above 0.5). A NaN output is wrong.
    """

    __name__ = "accuracy"

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def __call__(self, outputs: Array, targets: Array) -> float:
        outputs, labels = _examples(outputs, targets)
        if outputs.shape[1] != 1:
            raise ValueError(mismatch("outputs", "shape (N,) or (N, 1)", outputs.shape))
        values = outputs[:, 0]
        return float(np.mean(((values > self.threshold) == (labels == 1)) & ~np.isnan(values)))

    def __repr__(self) -> str:
        return f"BinaryAccuracy({self.threshold})"


def accuracy_of(loss: Loss) -> Callable[[Array, Array], float] | None:
    """Return the accuracy that goes with a loss of classes, and None for any other loss."""
    if isinstance(loss, SoftmaxCrossEntropy):
        return accuracy
    if isinstance(loss, BinaryCrossEntropy):
        decisions = BinaryAccuracy(0.0 if loss.from_logits else 0.5)
        return lambda outputs, targets: decisions(outputs.reshape(-1), targets.reshape(-1))
    return None


def _examples(outputs: Array, targets: Array) -> tuple[Array, NDArray[np.int64]]:
    """Outputs as (N, K) and labels as (N,), checked."""
    outputs, targets = np.asarray(outputs), np.asarray(targets)
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2 or outputs.shape[1] == 0:
        raise ValueError(mismatch("outputs", "shape (N, K) or (N,)", outputs.shape))
    if outputs.shape[0] == 0:
        raise ValueError(mismatch("outputs", "at least one example", outputs.shape))
    examples, classes = outputs.shape
    if targets.shape == (examples, classes) and classes > 1:
        return outputs, targets.argmax(axis=1)
    if targets.shape not in ((examples,), (examples, 1)):
        raise ValueError(mismatch("targets", f"shape ({examples},) or {outputs.shape}", targets.shape))
    targets = targets.reshape(examples)
    if classes == 1:
        labels = (targets > 0.5).astype(np.int64)
        wrong = (targets < 0) | (targets > 1) | np.isnan(targets.astype(np.float64))
        classes = 2
    else:
        labels = targets.astype(np.int64)
        wrong = (labels != targets) | (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ValueError(mismatch("targets", f"labels 0 to {classes - 1}", targets[wrong][0]))
    return outputs, labels
