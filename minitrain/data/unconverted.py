"""Targets that are converted batch by batch: those in mapped files, and those that take less memory as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitrain.arrays.mapped import chunks
from minitrain.layer import Shape
from minitrain.objective.objective import Term
from nbnorm.jit.arrays import Array

__all__ = ["UnconvertedTargets"]


class UnconvertedTargets:
    """Targets as they were given, all of them checked; `targets[rows]` are as the loss computes with them.

    Parameters
    ----------
    term : Term
    given : array
    output_shape : tuple of int
        Of the outputs for all samples, batch axis first.

    Raises
    ------
    ValueError, TypeError
        What does not fit the loss.
    """

    def __init__(self, term: Term, given: Array, output_shape: Shape) -> None:
        self._given = given
        self._term = term
        self._output_shape = output_shape
        samples = [self._convert(each)[:1] for each in chunks(given)]
        self.shape = (len(given), *samples[0].shape[1:])
        self.dtype = np.result_type(*samples)

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, rows: Any) -> Array:
        return self._convert(self._given[rows])

    def _convert(self, given: Array) -> Array:
        return self._term.targets(given, (len(given), *self._output_shape[1:]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self._given, dtype)

    def over(self, given: Array) -> UnconvertedTargets:
        """Return the same over a copy of the array."""
        targets = UnconvertedTargets.__new__(UnconvertedTargets)
        vars(targets).update(vars(self), _given=given)
        return targets
