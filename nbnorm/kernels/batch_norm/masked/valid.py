"""Which values of a batch count: what the masked kernels are told of it."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.jit.arrays import Array
from nbnorm.kernels import statistics
from nbnorm.simd.memory import item
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["Marks", "Valid", "sample_valid", "valid_by_lengths", "valid_by_mask"]


class Valid(NamedTuple):
    """The positions (n, i) of a batch (N, C, L) at which values count, in all channels alike."""

    marks: Any  #: uint8: 1 where (n, i) counts, at n * L + i, and then a vector's worth of zeros
    rows: Any  #: int64: the images that count where L = 1, else empty
    number: int  #: of positions that count


class Marks(NamedTuple):
    """The bytes that say which values of runs count: of the first from values[first] on, others `pitch` later."""

    values: Any
    first: int
    pitch: int


def valid_by_mask(mask: Array) -> Valid:
    """Return what is valid where `mask`, bool (N, L), is True."""
    marks = _marks(mask.size)
    marks[: mask.size].view(bool).reshape(mask.shape)[...] = mask
    rows = np.flatnonzero(mask) if mask.shape[1] == 1 else np.empty(0, np.int64)
    return Valid(marks, rows, int(np.count_nonzero(mask)))


def valid_by_lengths(lengths: Array, length: int) -> Valid:
    """Return what is valid where the first `lengths`, int64 (N,), of `length` positions are."""
    marks = _marks(lengths.size * length)
    mask = marks[: lengths.size * length].view(bool).reshape(lengths.size, length)
    np.less(np.arange(length), lengths[:, None], out=mask)
    rows = np.flatnonzero(mask) if length == 1 else np.empty(0, np.int64)
    return Valid(marks, rows, int(lengths.sum()))


def _marks(size: int) -> Array:
    marks = np.empty(size + VECTOR_BYTES, np.uint8)
    marks[size:] = 0
    return marks


@device
def sample_valid(valid, shape, samples):
    """Overwrite `samples` with the offsets of valid values of channel 0, spread over the batch."""
    images, channels, length = shape
    size, found = images * length, -1
    for k in range(statistics.SAMPLES):
        start = k * size >> statistics.SAMPLE_BITS
        if start > found:
            while start < size and item(valid.marks, start) == 0:
                start += 1
            found = start if start < size else found
        samples[k] = found // length * channels * length + found % length
