"""Weights of samples and of classes, as a person gives them, for each loss of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from minitrain.arrays import as_numbers, described
from minitrain.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from minitrain.objective.objective import Objective, Term
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_number, mismatch

__all__ = ["ClassWeights", "classes_of", "present_targets", "scaled_to_mean_one", "weights_of_samples"]

Given = list[Array | None]  # for each loss: (N,) float64, or None where every sample has the weight 1
BALANCED = "balanced"


def weights_of_samples(objective: Objective, sample_weight: Any, count: int) -> Given | None:
    """Return the weights of `count` samples for each loss; None where none were given.

    Raises
    ------
    TypeError, ValueError
        What is no weight: another length, below 0, not finite; all 0; an output that has no loss.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Mapping):
        given = _by_output("sample_weight", objective, sample_weight)
        weights = [
            None if each is None else _checked(f"sample_weight[{term.output!r}]", each, count)
            for term, each in zip(objective.terms, given, strict=True)
        ]
    else:
        weights = [_checked("sample_weight", sample_weight, count)] * len(objective.terms)
    if all(each is not None and not each.any() for each in weights):
        raise ValueError("sample_weight: expected weights above 0 for some samples, got 0 for all of them")
    return weights


class ClassWeights:
    """Factors of the weights of all samples of a class.

    Parameters
    ----------
    objective : Objective
    class_weight : mapping of class to weight, "balanced", or mapping of output name to one of these
        Classes that are not named have the weight 1. "balanced": n / (classes * n of the class), where n are sums of
        weights, and the classes those that there are; as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        What is none of these; losses that are not of classes.
    """

    def __init__(self, objective: Objective, class_weight: Any) -> None:
        if objective.is_named:
            form = f"class_weight={{{objective.terms[0].output!r}: 'balanced'}}"
            if not isinstance(class_weight, Mapping):
                raise TypeError(mismatch("class_weight", f"weights by output, such as {form}", repr(class_weight)))
            given = _by_output("class_weight", objective, class_weight)
        else:
            given = [class_weight]
        self._weights: list[Any] = []
        for term, each in zip(objective.terms, given, strict=True):
            label = f"class_weight[{term.output!r}]" if objective.is_named else "class_weight"
            self._weights.append(None if each is None else _class_weights(label, term, each))

    @property
    def is_balanced(self) -> bool:
        """Whether they depend on how often the classes occur."""
        return any(isinstance(each, str) for each in self._weights)

    def times(self, weights: Given | None, targets: Sequence[Array], classes: Sequence[int]) -> Given:
        """Return the weights of samples times those of their classes.

        Parameters
        ----------
        weights
            Of the samples, before.
        targets : sequence of arrays
            As the losses compute with them.
        classes : sequence of int
            How many there are for each loss.
        """
        factors: Given = []
        for index, each in enumerate(self._weights):
            before = None if weights is None else weights[index]
            if each is None:
                factors.append(before)
                continue
            labels, count = classes_of(targets[index], classes[index])
            amounts = np.ones(len(labels)) if before is None else before
            factors.append(amounts * _table(each, labels, count, amounts)[labels])
        return factors


def classes_of(targets: Array, classes: int) -> tuple[Array, int]:
    """Return the class of each sample (N,), and how many classes there are.

    `targets` are as a loss of classes computes with them: labels, rows of probabilities, or one probability of class 1.
    """
    if targets.dtype.kind == "i":
        return targets, classes
    rows = targets.reshape(len(targets), -1)
    if rows.shape[1] > 1:
        return rows.argmax(axis=1), rows.shape[1]
    return (rows[:, 0] > 0.5).astype(np.int64), 2


def present_targets(y: Any, weights: Array | None) -> Any:
    """Return targets in which those of weight 0 were replaced by one that counts: nobody looks at what is absent."""
    if weights is None or weights.all() or not weights.any():
        return y
    targets = np.array(y)
    targets[weights == 0.0] = targets[np.flatnonzero(weights)[0]]
    return targets


def scaled_to_mean_one(weights: Given, count: int) -> tuple[Array, ...]:
    """Return weights whose mean is 1 for each loss; zeros where a loss has nothing but zeros."""
    scaled = []
    for each in weights:
        if each is None:
            scaled.append(np.ones(count))
            continue
        largest = float(each.max())
        each = each / largest if largest else each  # sums of any weights are finite then
        scaled.append(each * (len(each) / each.sum()) if largest else each)
    return tuple(scaled)


def _by_output(label: str, objective: Objective, given: Mapping[Any, Any]) -> list[Any]:
    """Return what was given for each loss, None where that is nothing."""
    names = [term.output for term in objective.terms]
    if not objective.is_named:
        raise TypeError(mismatch(label, "one array, as there is one loss without a name", "a dictionary"))
    for name in given:
        if name not in names:
            raise ValueError(mismatch(label, f"names of outputs that have a loss ({', '.join(names)})", repr(name)))
    return [given.get(name) for name in names]


def _checked(label: str, given: Any, count: int) -> Array:
    """Return weights as float64 (N,)."""
    expected = f"{count} weights, one for each sample"
    if given is None or np.ndim(given) == 0:
        raise TypeError(mismatch(label, expected, described(given) if given is None else repr(given)))
    weights = as_numbers(label, given, expected).astype(np.float64)
    if weights.shape == (count, 1):
        weights = weights[:, 0]
    if weights.shape != (count,):
        raise ValueError(mismatch(label, f"{expected}, of shape ({count},)", f"shape {weights.shape}"))
    wrong = ~(np.isfinite(weights) & (weights >= 0.0))
    if wrong.any():
        got = f"{weights[wrong][0]:g} for sample {wrong.argmax()}"
        raise ValueError(mismatch(label, "finite weights of at least 0", got))
    return weights


def _class_weights(label: str, term: Term, given: Any) -> Any:
    """Return "balanced", or a dictionary of int to float."""
    expected = "a dictionary of weights by class, or 'balanced'"
    if not isinstance(term.loss, SoftmaxCrossEntropy | BinaryCrossEntropy):
        raise ValueError(f"{label}: {type(term.loss).__name__} is no loss of classes; use sample_weight")
    if isinstance(given, str):
        if given != BALANCED:
            raise ValueError(mismatch(label, expected, repr(given)))
        return given
    if not isinstance(given, Mapping):
        raise TypeError(mismatch(label, expected, described(given)))
    for each in given:
        if not isinstance(each, Integral | np.bool_):
            raise TypeError(mismatch(label, "whole numbers, the labels of the classes, as keys", repr(each)))
    return {int(each): expect_number(f"{label}[{each!r}]", weight, 0.0) for each, weight in given.items()}


def _table(weights: Any, labels: Array, classes: int, amounts: Array) -> Array:
    """Return the weight of each class."""
    if isinstance(weights, str):
        sums = np.bincount(labels, amounts, minlength=classes)
        present = sums > 0.0
        table = np.zeros(classes)
        table[present] = sums.sum() / (present.sum() * sums[present])
        return table
    table = np.ones(classes)
    for each, weight in weights.items():
        if not 0 <= each < classes:
            raise ValueError(mismatch("class_weight", f"classes from 0 to {classes - 1}", each))
        table[each] = weight
    return table
