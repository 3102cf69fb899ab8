"""Gradients of several batches, averaged, for one update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbnorm.jit.arrays import Array

__all__ = ["AccumulatedGradients"]


class AccumulatedGradients:
    """The sum of a model's gradients over batches, each times the number of its samples.

    Parameters
    ----------
    gradients : array
        Flat, of a model; where each batch leaves its own, and `average` writes.
    trained : sequence of slices, or None
        What of it is trained, as by `ParameterRuns.trained`; the rest is neither read nor written. None for all.
    """

    def __init__(self, gradients: Array, trained: Sequence[slice] | None = None) -> None:
        self._gradients = gradients
        self._trained = (slice(None),) if trained is None else tuple(trained)
        self._sums = np.zeros_like(gradients)
        self._samples = 0

    def add(self, samples: int) -> None:
        """Take the gradients that a batch of so many samples left."""
        for run in self._trained:
            self._sums[run] += self._gradients[run] * samples
        self._samples += samples

    def average(self) -> None:
        """Overwrite the gradients with the mean over the samples of all batches."""
        for run in self._trained:
            np.divide(self._sums[run], self._samples, out=self._gradients[run])
