"""How batch norm's work is cut where each channel is a column: (M, C) arrays, a sample of all channels after the other.

That is (N, C) data, and (N, C, *spatial) data with the channels last in memory. A vector holds neighbouring channels.
Work is cut by shape alone: small arrays into groups of channels, each of which is summed and then normalized; others
into chunks of rows, all of which are summed before the first is normalized.

The constants were found with `benchmarks.peers batch-norm` on 4 cores of an AVX-512 Xeon, 2026-11.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.jit.arrays import Array
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["BLOCK_ROWS", "FINISHED", "STREAM_BYTES", "Columns", "Cut", "columns_of", "cut", "cut_of", "finished_by"]

# Bytes of an output from which on it is stored past the caches: larger ones are not going to be found there, smaller
# ones would have been.
STREAM_BYTES = 24 * 1024 * 1024
# Rows of one array that are read at a time, and whose sum is in the type of x. More costs float32 its digits, less
# spends the time on adding up in float64.
BLOCK_ROWS = 32
# Elements of an array up to which it is cut into groups of channels. More than that is cut into chunks of rows, as
# pieces of rows are read slowly; less, in whole rows, would need a second parallel loop for what fits the caches.
GROUP_ELEMENTS = 128 * 1024
# Groups of channels, at least half as many: more are narrower than what is read at once, fewer leave threads idle.
GROUPS = 8
# Chunks of rows, or a multiple of that: more would leave more sums to add up, fewer would idle threads.
CHUNKS = 16
CHUNK_ELEMENTS = 128 * 1024  # at most, about, of a chunk: more would not stay in a level 2 cache of 1 MiB
LEAST_ELEMENTS, LEAST_ROWS = 16 * 1024, 64  # of a chunk: a smaller one takes less time than a thread needs to begin it
# Columns of a task between the passes: fewer take less time than a thread needs to begin them, more leave threads idle.
FINISHED = 256


class Cut(NamedTuple):
    """How the work on (M, C) arrays is divided, and the memory that takes."""

    width: int  #: channels of a task
    height: int  #: rows of a task
    streaming: bool  #: whether to store past the caches
    slots: int  #: float64 values of working memory


@device
def cut_of(row):
    """The `Cut` that `cut` wrote."""
    return Cut(row[0], row[1], row[2] > 0, row[3])


@lru_cache(maxsize=1024)
def cut(rows: int, channels: int, itemsize: int) -> Array:
    """Cut the work on (M, C) arrays: a row of int64, see `cut_of`."""
    lanes, size = VECTOR_BYTES // itemsize, rows * channels
    width, height = channels, rows
    if size <= GROUP_ELEMENTS and channels >= GROUPS // 2 * lanes:
        width = lanes * max(channels // lanes // GROUPS, 1)
    else:
        chunks = min(CHUNKS * -(-size // (CHUNKS * CHUNK_ELEMENTS)), max(size // LEAST_ELEMENTS, 1))
        height = max(-(-rows // chunks), min(rows, LEAST_ROWS))
    slots = -(-rows // height) * 2 * -(-channels // lanes) * lanes
    return np.array(Cut(width, height, rows * channels * itemsize >= STREAM_BYTES, slots))


class Columns(NamedTuple):
    """What a task works on: columns c0 up to c1, of rows r0 up to r1, which are a chunk."""

    c0: int
    c1: int
    r0: int
    r1: int
    chunk: int


@device
def columns_of(task, cut, rows, channels):
    """The columns and rows of a task that sums or normalizes."""
    across = -(-channels // cut.width)
    chunk = task // across
    c0, r0 = task % across * cut.width, chunk * cut.height
    c1 = c0 + cut.width if c0 + cut.width < channels else channels
    r1 = r0 + cut.height if r0 + cut.height < rows else rows
    return Columns(c0, c1, r0, r1, chunk)


@device
def finished_by(task, channels):
    """The columns from and up to which a task finishes between the passes."""
    return task * FINISHED, min(task * FINISHED + FINISHED, channels)
