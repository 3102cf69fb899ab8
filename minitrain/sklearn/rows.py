"""Samples as a net is trained on them: each once with its weight, in an order of their own, standardized.

That a sample of weight 2 is as good as the same one twice, and one of weight 0 as good as none, is promised by
scikit-learn and checked to seven digits. No training in shuffled batches could keep it as it stands. Here equal
samples become one that has the sum of their weights, and all are sorted by a digest of their bytes: what is trained
on, and therefore every bit of the result, is the same in both cases, and in whatever order the samples come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minitrain.arrays import as_numbers
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["Rows", "Scaling", "checked_weights", "distinct", "present"]

DIGEST = 16  # bytes: among a billion samples, two different ones have the same with a chance of 1e-21
CHUNK = 4096  # samples that are copied as float64 at a time: bounds the memory, and is where sums are divided


class Rows(NamedTuple):
    """Different samples in an order that depends on them alone.

    Attributes
    ----------
    x : array (N, features)
    y : array (N,) or (N, outputs)
    weight : array (N,) of float64, or None
        None where all have the same.
    """

    x: Array
    y: Array
    weight: Array | None


def checked_weights(sample_weight: Any, count: int) -> Array | None:
    """Return the weights of `count` samples as float64, None for none; ValueError for what cannot be weights."""
    if sample_weight is None:
        return None
    expected = f"{count} finite weights of at least 0, one for each sample"
    weight = as_numbers("sample_weight", sample_weight, expected).astype(np.float64)
    if weight.shape != (count,):
        raise ValueError(mismatch("sample_weight", expected, f"shape {weight.shape}"))
    wrong = ~(np.isfinite(weight) & (weight >= 0.0))
    if wrong.any():
        raise ValueError(mismatch("sample_weight", expected, f"{weight[wrong][0]:g} for sample {wrong.argmax()}"))
    if not weight.any():
        raise ValueError("sample_weight: expected at least one weight above 0, got zero for every sample")
    return weight


def present(X: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array | None]:
    """Return the samples whose weight is not 0."""
    if weight is None or weight.all():
        return X, y, weight
    kept = weight > 0.0
    return X[kept], y[kept], weight[kept]


def distinct(x: Array, y: Array, weight: Array | None) -> Rows:
    """Return each sample once, with the sum of its weights.

    Parameters
    ----------
    x : array (N, features)
    y : array (N,) or (N, outputs)
        Samples are equal where x and y are.
    weight : array (N,), optional
        Above 0.
    """
    digests = np.empty(len(x), f"V{DIGEST}")
    for start in range(0, len(x), CHUNK):
        chunk = slice(start, start + CHUNK)
        columns = [each[chunk].reshape(len(each[chunk]), -1).astype(np.float64) for each in (x, y)]
        values = np.ascontiguousarray(np.concatenate(columns, axis=1))
        values += 0.0  # -0.0 becomes 0.0: they are equal
        digests[chunk] = [hashlib.blake2b(row, digest_size=DIGEST).digest() for row in values]
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    sums = np.bincount(which.reshape(-1), weight)
    return Rows(x[first], y[first], None if np.all(sums == sums[0]) else sums)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of features or targets, with which they get mean 0 and deviation 1.

    Attributes
    ----------
    count : float
        The sum of the weights behind them.
    mean, variance : arrays (features,) of float64
    """

    count: float
    mean: Array
    variance: Array

    @staticmethod
    def of(values: Array, weight: Array | None, group: int = 1) -> Scaling:
        """Return that of values (N, features).

        Parameters
        ----------
        weight : array (N,), optional
        group : int
            So many neighbouring features have one mean and one deviation in common: the pixels of a channel.
        """
        count, width = values.shape
        weights = np.ones(count) if weight is None else weight
        total = float(weights.sum())
        rows = values.reshape(count, width // group, group)
        chunks = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
        mean, variance = np.zeros((2, width // group))
        # No BLAS, which would divide the sums by its number of threads, and with it their bits.
        for chunk in chunks:
            mean += np.einsum("n,ncg->c", weights[chunk], rows[chunk].astype(np.float64))
        mean /= total * group
        for chunk in chunks:
            variance += np.einsum("n,ncg->c", weights[chunk], (rows[chunk] - mean[:, None]) ** 2)
        variance /= total * group
        return Scaling(total, np.repeat(mean, group), np.repeat(variance, group))

    def merged(self, other: Scaling) -> Scaling:
        """Return that of the samples behind both (Chan, Golub & LeVeque 1979)."""
        total = self.count + other.count
        share = other.count / total
        apart = other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance) + share * (1.0 - share) * apart**2
        return Scaling(total, self.mean + share * apart, variance)

    @property
    def deviation(self) -> Array:
        """The standard deviation; 1 where that is nothing but rounding."""
        deviation = np.sqrt(self.variance)
        constant = deviation <= 16 * np.finfo(np.float64).eps * np.abs(self.mean)
        return np.where(constant, 1.0, deviation)

    def apply(self, values: Array) -> Array:
        """Return values (N, features) with mean 0 and deviation 1 as float32, within what that can hold."""
        scaled = np.empty(values.shape, np.float32)
        deviation, largest = self.deviation, np.finfo(np.float32).max
        for start in range(0, len(values), CHUNK):
            chunk = slice(start, start + CHUNK)
            scaled[chunk] = np.clip((values[chunk] - self.mean) / deviation, -largest, largest)
        return scaled

    def undo(self, values: Array) -> Array:
        """Return what `apply` made `values` of, as float64."""
        return np.asarray(values.astype(np.float64) * self.deviation + self.mean)
