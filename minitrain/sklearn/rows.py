"""Samples as a net is trained on them: each once with its weight, in an order of their own, standardized.

That a sample of weight 2 is as good as the same one twice, and one of weight 0 as good as none, is promised by
scikit-learn and checked to seven digits. No training in shuffled batches could keep it as it stands. Here equal
samples become one that has the sum of their weights, and all are sorted by a digest of their bytes: what is trained
on, and therefore every bit of the result, is the same in both cases, and in whatever order the samples come. Where
few samples are equal, they are then taken apart again, one beside the other: a training without weights is faster.
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
MOST_REPEATED = 2.0  # times as many samples as different ones: with more, steps on weights are fewer and less work
WHOLE = 1e-9  # so near to a whole number is what rounding makes of one: 0.1 + 0.1 + 0.1 is three times 0.1
LARGEST = 1e12  # deviations from the mean: what lies beyond is an error in the data, and no sum of a net overflows yet
CHUNK = 4096  # samples that are copied as float64 at a time: bounds the memory, and is where sums are divided


class Rows(NamedTuple):
    """Samples in an order that depends on them alone.

    Attributes
    ----------
    x : array (N, features)
    y : array (N,) or (N, outputs)
    weight : array (N,) of float64, or None
        None where all have the same.
    total : float
        The sum of the weights as they were given.
    """

    x: Array
    y: Array
    weight: Array | None
    total: float


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
    """Return each sample once, with the sum of its weights; or as often as that says, where that is not often.

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
    total = float(sums.sum())
    times = sums / sums.min()
    whole = np.rint(times)
    if np.abs(times - whole).max() > WHOLE or whole.sum() > MOST_REPEATED * len(whole):
        return Rows(x[first], y[first], sums, total)
    repeated = np.repeat(first, whole.astype(np.int64))
    return Rows(x[repeated], y[repeated], None, total)


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
    def of(label: str, values: Array, rows: Rows, group: int = 1) -> Scaling:
        """Return that of values (N, features).

        Parameters
        ----------
        label : str
            What the values are called in an error.
        rows : Rows
            Whose values these are, and whose weights they have.
        group : int
            So many neighbouring features have one mean and one deviation in common: the pixels of a channel.

        Raises
        ------
        ValueError
            Their squares are more than float64 can hold.
        """
        count, width = values.shape
        weights = np.ones(count) if rows.weight is None else rows.weight
        total = float(weights.sum())
        groups = values.reshape(count, width // group, group)
        chunks = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
        mean, variance = np.zeros((2, width // group))
        # No BLAS, which would divide the sums by its number of threads, and with it their bits.
        with np.errstate(over="ignore", invalid="ignore"):
            for chunk in chunks:
                mean += np.einsum("n,ncg->c", weights[chunk], groups[chunk].astype(np.float64))
            mean /= total * group
            for chunk in chunks:
                variance += np.einsum("n,ncg->c", weights[chunk], (groups[chunk] - mean[:, None]) ** 2)
            variance /= total * group
        if not np.isfinite(variance).all():
            got = f"values up to {np.abs(values).max():g}"
            raise ValueError(mismatch(label, "values whose squares are finite; divide them by a constant", got))
        return Scaling(rows.total, np.repeat(mean, group), np.repeat(variance, group))

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
        """Return values (N, features) with mean 0 and deviation 1 as float32; at most `LARGEST`."""
        scaled = np.empty(values.shape, np.float32)
        deviation = self.deviation
        for start in range(0, len(values), CHUNK):
            chunk = slice(start, start + CHUNK)
            scaled[chunk] = np.clip((values[chunk] - self.mean) / deviation, -LARGEST, LARGEST)
        return scaled

    def undo(self, values: Array) -> Array:
        """Return what `apply` made `values` of, as float64."""
        return np.asarray(values.astype(np.float64) * self.deviation + self.mean)
