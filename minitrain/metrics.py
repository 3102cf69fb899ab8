"""Metrics: functions of the net's outputs and the targets that return one float, for `Trainer(metrics=...)`.

Outputs are logits or probabilities: (N, K) for K > 1 classes, or (N, 1) or (N,) for two classes. Targets are integer
labels (N,) or (N, 1), or one-hot rows or probabilities (N, K), of which the largest is the class. Any object with a
`__name__` that is called in this way is a metric; the mean over all examples must be the mean over batches weighted
by their sizes. What a metric here takes is held against the net and the loss when a `Trainer` is made.

Two attributes of a metric, a function's or a class's, say more: `larger_is_better`, True or False, is what a monitor
goes by; with `over_whole_set = True` the metric is no mean over batches, and is called once with all outputs and
targets, of a data set or of an epoch. scikit-learn's can be used so::

    class AveragePrecision:
        __name__ = "average_precision"
        larger_is_better = True
        over_whole_set = True

        def __call__(self, outputs, targets):
            return sklearn.metrics.average_precision_score(targets, outputs[:, 1])
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minitrain.arrays import as_numbers
from minitrain.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, expect_one_of, mismatch

__all__ = ["F1", "BinaryAccuracy", "RocAuc", "TopK", "accuracy", "accuracy_of", "per_sample_of", "top_k_accuracy"]

Function = TypeVar("Function", bound=Callable[..., float])


def _larger_is_better(function: Function) -> Function:
    vars(function)["larger_is_better"] = True
    return function


@_larger_is_better
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
    return float(np.mean(_right(outputs, targets)))


@_larger_is_better
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
    return float(np.mean(_among_largest(outputs, targets, expect_integer("k", k, 1))))


def _right(outputs: ArrayLike, targets: ArrayLike) -> NDArray[np.bool_]:
    """Whether the largest output of each example is that of its class."""
    values, labels = _examples(outputs, targets)
    if values.shape[1] == 1:
        return BinaryAccuracy().per_sample(outputs, targets)
    return np.asarray((values.argmax(axis=1) == labels) & ~np.isnan(values).any(axis=1))


def _among_largest(outputs: ArrayLike, targets: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether the class of each example is among its k largest outputs."""
    values, labels = _examples(outputs, targets)
    classes = values.shape[1]
    if classes == 1:
        raise ValueError(mismatch("outputs", "shape (N, K) for two or more classes", values.shape))
    if k > classes:
        raise ValueError(mismatch("k", f"1 to {classes} classes", k))
    mine = np.take_along_axis(values, labels[:, None], axis=1)
    before = np.arange(classes) < labels[:, None]
    ahead = (values > mine) | ((values == mine) & before)
    return np.asarray((ahead.sum(axis=1) < k) & ~np.isnan(values).any(axis=1))


class TopK:
    """`top_k_accuracy` for a fixed k, as a metric with the name `top_<k>`."""

    larger_is_better = True

    def __init__(self, k: int = 5) -> None:
        self.k = k = expect_integer("k", k, 1)
        self.__name__ = f"top_{k}"

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
        return top_k_accuracy(outputs, targets, self.k)

    def per_sample(self, outputs: ArrayLike, targets: ArrayLike) -> NDArray[np.bool_]:
        """Return which examples are right."""
        return _among_largest(outputs, targets, self.k)

    def __repr__(self) -> str:
        return f"TopK({self.k})"


class BinaryAccuracy:
    """Fraction of examples on the right side of `threshold`: 0 for logits, 0.5 for probabilities.

    outputs (N,), (N, 1): class 1 is predicted above the threshold. targets (N,), (N, 1): 0 and 1 (probabilities: 1
    above 0.5). A NaN output is wrong.
    """

    __name__ = "accuracy"
    larger_is_better = True

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = expect_number("threshold", threshold)

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
        return float(np.mean(self.per_sample(outputs, targets)))

    def per_sample(self, outputs: ArrayLike, targets: ArrayLike) -> NDArray[np.bool_]:
        """Return which examples are right."""
        values, labels = _examples(outputs, targets)
        if values.shape[1] != 1:
            raise ValueError(mismatch("outputs", "shape (N,) or (N, 1)", values.shape))
        single = values[:, 0]
        return np.asarray(((single > self.threshold) == (labels == 1)) & ~np.isnan(single))

    def __repr__(self) -> str:
        return f"BinaryAccuracy({self.threshold})"


class RocAuc:
    """Area under the ROC curve: how often an example of a class scores higher than one of another; ties count half.

    Two classes: outputs (N,), (N, 1), or (N, 2), of which the second less the first is the score. K classes: the mean
    over the classes of each against the rest, by its probability; where rows of outputs are not probabilities, they
    are taken as logits. It is no mean over batches, and is measured over all of a data set. NaN where one of the
    classes has no examples, or an output is a NaN.

    Examples
    --------
    >>> import numpy as np
    >>> RocAuc()(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """

    __name__ = "roc_auc"
    larger_is_better = True
    over_whole_set = True

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
        values, labels = _examples(outputs, targets)
        values = values.astype(np.float64)
        if np.isnan(values).any():
            return float("nan")
        classes = values.shape[1]
        if classes == 1:
            return _area(values[:, 0], labels == 1)
        if classes == 2:
            return _area(values[:, 1] - values[:, 0], labels == 1)
        probabilities = _probabilities(values)
        return float(np.mean([_area(probabilities[:, each], labels == each) for each in range(classes)]))

    def __repr__(self) -> str:
        return "RocAuc()"


class F1:
    """The harmonic mean of precision and recall; it is no mean over batches, and is measured over all of a data set.

    Parameters
    ----------
    average : "auto", "macro" or "micro"
        "auto": of class 1 where there are two classes, else "macro", the mean over the classes; "micro": of all
        decisions together. A class that neither occurs nor is predicted counts as 0.
    threshold : float
        Of a single output: class 1 is predicted above; 0 for logits, 0.5 for probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> F1()(np.array([-1.0, 2.0, 3.0, -2.0]), np.array([0, 1, 0, 0])) == 2 / 3
    True
    """

    __name__ = "f1"
    larger_is_better = True
    over_whole_set = True

    def __init__(self, average: Literal["auto", "macro", "micro"] = "auto", threshold: float = 0.0) -> None:
        self.average = expect_one_of("average", average, ("auto", "macro", "micro"))
        self.threshold = expect_number("threshold", threshold)

    def __call__(self, outputs: ArrayLike, targets: ArrayLike) -> float:
        values, labels = _examples(outputs, targets)
        classes = max(values.shape[1], 2)
        predicted = values.argmax(axis=1) if values.shape[1] > 1 else (values[:, 0] > self.threshold).astype(np.int64)
        predicted[np.isnan(values).any(axis=1)] = -1  # is no class, and wrong
        hits = np.bincount(labels[labels == predicted], minlength=classes)
        both = np.bincount(labels, minlength=classes) + np.bincount(predicted[predicted >= 0], minlength=classes)
        if self.average == "micro":
            return float(2 * hits.sum() / both.sum())
        each = 2 * hits / np.maximum(both, 1)
        return float(each[1] if classes == 2 and self.average == "auto" else each.mean())

    def __repr__(self) -> str:
        return f"F1({self.average!r}, {self.threshold})"


def _area(scores: Array, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve, from the mean ranks of the scores (Mann and Whitney's U)."""
    count = int(positive.sum())
    others = positive.size - count
    if not count or not others:
        return float("nan")
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[which][positive].sum() - count * (count + 1) / 2) / (count * others))


def _probabilities(values: Array) -> Array:
    """Rows that are no probabilities, as logits, in probabilities."""
    if (values >= 0).all() and (abs(values.sum(axis=1) - 1) <= 1e-3).all():
        return values
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


class Decisions:
    """`BinaryAccuracy` of every element of outputs and targets of one shape: what goes with `BinaryCrossEntropy`."""

    __name__ = "accuracy"
    larger_is_better = True

    def __init__(self, threshold: float) -> None:
        self._accuracy = BinaryAccuracy(threshold)

    def __call__(self, outputs: Array, targets: Array) -> float:
        if outputs.size != targets.size:
            raise ValueError(mismatch("targets", f"shape {outputs.shape}", targets.shape))
        return self._accuracy(outputs.reshape(-1), targets.reshape(-1))

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """Return the share of each example's elements that are right."""
        right = self._accuracy.per_sample(outputs.reshape(-1), targets.reshape(-1))
        return np.asarray(right.reshape(len(outputs), -1).mean(axis=1))


def per_sample_of(metric: Any) -> Callable[[Array, Array], Array] | None:
    """Return what measures each example on its own, whose mean is the metric; None for a metric that is not ours."""
    if metric is accuracy:
        return _right
    if metric is top_k_accuracy:
        metric = TopK()
    return metric.per_sample if type(metric) in (TopK, BinaryAccuracy, Decisions) else None


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
