"""Weights of classes, by label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_number, expect_one_of, mismatch

__all__ = ["class_factors"]


def class_factors(class_weight: Any, classes: Array, amounts: Array) -> Array:
    """Return the factor of the weights of the samples of each class, float64.

    Parameters
    ----------
    class_weight : mapping of label to float, or "balanced"
    classes : array (classes,)
        Labels.
    amounts : array (classes,)
        Sums of weights: "balanced" factors are inverse to them, and 0 where there is nothing.

    Raises
    ------
    ValueError, TypeError
        Neither of these; a label that is no class while a class has no weight, which is likely one and the same.
    """
    if isinstance(class_weight, str):
        expect_one_of("class_weight", class_weight, ("balanced",))
        return np.asarray(np.divide(amounts.sum(), amounts, out=np.zeros(len(amounts)), where=amounts > 0.0))
    if not isinstance(class_weight, Mapping):
        expected = "a dictionary of weights by label, or 'balanced'"
        raise TypeError(mismatch("class_weight", expected, repr(class_weight)))
    weights = {label: expect_number(f"class_weight[{label!r}]", each, 0.0) for label, each in class_weight.items()}
    known = classes.tolist()
    strange = [label for label in weights if label not in known]
    if strange and any(label not in weights for label in known):  # a class may be missing in a part of the data
        raise ValueError(mismatch("class_weight", f"labels of the classes {known}", repr(strange[0])))
    return np.array([weights.get(label, 1.0) for label in known])
