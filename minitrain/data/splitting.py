"""A data set in two: what is trained on, and what is held out to validate."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["split"]

Rows = npt.NDArray[np.intp]
STREAM = 0x73706C6974  # "split": a stream of random numbers of its own beside the orders of epochs


def split(rows: Rows, share: float, seed: int, labels: Array | None = None) -> tuple[Rows, Rows]:
    """Return the rows to train on and those to validate on, each in increasing order.

    Parameters
    ----------
    rows : array of int
        Of the samples to divide.
    share : float
        Of them, rounded, to validate on; at least one sample is on each side.
    seed : int
        The same seed, the same split.
    labels : array of int, optional
        The class of each row: classes have the same share on both sides, up to rounding, and a class of one sample is
        trained on.

    Raises
    ------
    ValueError
        There are not two samples.
    """
    if len(rows) < 2:
        raise ValueError(mismatch("validation_split", "two samples or more to divide", len(rows)))
    generator = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    held = min(max(round(share * len(rows)), 1), len(rows) - 1)
    groups = [np.arange(len(rows))] if labels is None else _groups(labels)
    counts = _shares([len(each) for each in groups], held)
    chosen = np.zeros(len(rows), bool)
    for group, count in zip(groups, counts, strict=True):
        chosen[generator.permutation(group)[:count]] = True
    return rows[~chosen], rows[chosen]


def _groups(labels: Array) -> list[Array]:
    return [np.flatnonzero(labels == each) for each in np.unique(labels)]


def _shares(sizes: list[int], total: int) -> list[int]:
    """Divide a total among groups in proportion to their sizes, the largest remainders first.

    One of each group stays where it can: groups that would be used up come last.
    """
    share = total / sum(sizes)
    counts = [min(math.floor(share * size), size - 1) for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (counts[k] >= sizes[k] - 1, counts[k] - share * sizes[k]))
    while sum(counts) < total:
        for k in by_remainder:
            spare = any(count < size - 1 for count, size in zip(counts, sizes, strict=True))
            if sum(counts) < total and counts[k] < sizes[k] - spare:
                counts[k] += 1
    return counts
