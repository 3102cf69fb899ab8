"""Metrics: functions of the net's outputs and the targets that return one float, for `Trainer(metrics=...)`.

Outputs are logits or probabilities: (N, K) for K > 1 classes, or (N, 1) or (N,) for two classes. Targets are integer
labels (N,) or (N, 1), or one-hot rows or probabilities (N, K), of which the largest is the class. Any object with a
`__name__` that is called in this way is a metric; the mean over all examples must be the mean over batches weighted
by their sizes. What a metric here takes is held against the net and the loss when a `Trainer` is made.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minitrain.arrays import as_numbers
from minitrain.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, mismatch

__all__ = ["BinaryAccuracy", "TopK", "accuracy", "accuracy_of", "top_k_accuracy"]


def accuracy(outputs: ArrayLike, targets: ArrayLike) -> float:
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
    values, labels = _examples(outputs, targets)
    if values.shape[1] == 1:
        return BinaryAccuracy()(outputs, targets)
    return float(np.mean((values.argmax(axis=1) == labels) & ~np.isnan(values).any(axis=1)))


def top_k_accuracy(outputs: ArrayLike, targets: ArrayLike, k: int = 5) -> float:
    """Return the fraction of examples whose target class is among the k largest outputs.

    Of equal outputs the lower class comes first, so that a tie is never a lucky one. Arguments and errors as for
    `accuracy`; k is at least 1 and at most K.

    Examples
    --------
    >>> import numpy as np
    >>> top_k_accuracy(np.array([[0.1, 2.0, 1.0], [3.0, 1.0, 2.0]]), np.array([2, 1]), k=2)
    0.5
    """
    k = expect_integer("k", k, 1)
    values, labels = _examples(outputs, targets)
    classes = values.shape[1]
    if classes == 1:
        raise ValueError(mismatch("outputs", "shape (N, K) for two or more classes", values.shape))
    if k > classes:
        raise ValueError(mismatch("k", f"1 to {classes} classes", k))
    mine = np.take_along_axis(values, labels[:, None], axis=1)
    before = np.arange(classes) < labels[:, None]
    ahead = (values > mine) | ((values == mine) & before)
    return float(np.mean((ahead.sum(axis=1) < k) & ~np.isnan(values).any(axis=1)))


class TopK:
    """`top_k_accuracy` for a fixed k, as a metric with the name `top_<k>`."""

    def __init__(self, k: int = 5) -> None:
        self.k = k = expect_integer("k", k, 1)
        self.__name__ = f"top_{k}"

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
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
        self.threshold = expect_number("threshold", threshold)

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
        values, labels = _examples(outputs, targets)
        if values.shape[1] != 1:
            raise ValueError(mismatch("outputs", "shape (N,) or (N, 1)", values.shape))
        single = values[:, 0]
        return float(np.mean(((single > self.threshold) == (labels == 1)) & ~np.isnan(single)))

    def __repr__(self) -> str:
        return f"BinaryAccuracy({self.threshold})"


class Decisions:
    """`BinaryAccuracy` of every element of outputs and targets of one shape: what goes with `BinaryCrossEntropy`."""

    __name__ = "accuracy"

    def __init__(self, threshold: float) -> None:
        self._accuracy = BinaryAccuracy(threshold)

    def __call__(self, outputs: Array, targets: Array) -> float:
        if outputs.size != targets.size:
            raise ValueError(mismatch("targets", f"shape {outputs.shape}", targets.shape))
        return self._accuracy(outputs.reshape(-1), targets.reshape(-1))


def accuracy_of(loss: Loss) -> Callable[[Array, Array], float] | None:
    """Return the accuracy that goes with a loss of classes, and None for any other loss."""
    if isinstance(loss, SoftmaxCrossEntropy):
        return accuracy
    if isinstance(loss, BinaryCrossEntropy):
        return Decisions(0.0 if loss.from_logits else 0.5)
    return None


def _examples(outputs: Any, targets: Any) -> tuple[Array, NDArray[np.int64]]:
    """Outputs as (N, K) and labels as (N,), checked."""
    values, given = as_numbers("outputs", outputs), as_numbers("targets", targets, "labels, or rows of probabilities")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(mismatch("outputs", "shape (N, K) or (N,)", values.shape))
    if values.shape[0] == 0:
        raise ValueError(mismatch("outputs", "at least one example", values.shape))
    examples, classes = values.shape
    if given.shape == (examples, classes) and classes > 1:
        return values, _classes(given)
    if given.shape not in ((examples,), (examples, 1)):
        raise ValueError(mismatch("targets", f"shape ({examples},) or {values.shape}", given.shape))
    given = given.reshape(examples)
    with np.errstate(invalid="ignore"):  # NaN is no label
        if classes == 1:
            labels = (given > 0.5).astype(np.int64)
            wrong = ~((given >= 0) & (given <= 1))
            classes = 2
        else:
            labels = given.astype(np.int64)
            wrong = (labels != given) | (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ValueError(mismatch("targets", f"labels 0 to {classes - 1}", given[wrong][0]))
    return values, labels


def _classes(rows: Array) -> NDArray[np.int64]:
    """The class of each row of ones and zeros, or of probabilities: of its largest."""
    sums = rows.sum(axis=1, dtype=np.float64)
    wrong = ~(abs(sums - 1.0) <= 1e-3)
    if wrong.any():
        raise ValueError(
            mismatch(
                "targets",
                "one-hot rows or probabilities that sum to 1",
                f"a sum of {sums[wrong][0]:g} in row {wrong.argmax()}; measure classes that hold at once one by one",
            )
        )
    return np.asarray(rows.argmax(axis=1))
