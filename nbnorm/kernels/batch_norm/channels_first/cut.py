"""How batch norm's work is cut where the values of a channel lie in rows: (N, C, L) with L > 1.

It is cut by shape alone. Usually a task is a group of whole channels, summed and then normalized while they are in the
cache. Channels that are few for many threads are cut into chunks: all are summed, then all are normalized.

The constants were found with `benchmarks.peers batch-norm` on 4 cores of an AVX-512 Xeon, 2026-11.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.jit.arrays import Array
from nbnorm.kernels.runs import KEPT
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["Cut", "cut", "cut_of", "range_of"]

# Bytes of a channel whose sum is in the type of x: 16 vectors for each of 4 accumulators. More costs float32 digits,
# less spends the time on adding up in float64.
BLOCK_BYTES = 64 * VECTOR_BYTES
# Channels from which on tasks are whole channels. With fewer, threads would wait for the one with the last channel;
# cutting more of them would read their values twice from memory rather than from the cache.
WHOLE_CHANNELS = 16
# Tasks to cut fewer channels into: more would not be better shared by up to 32 threads, fewer would idle some of them.
CHUNKS = 32
CHUNK_ELEMENTS = 4096  # at least, of a chunk: a smaller one takes less time than a thread needs to begin it
# Bytes of the rows of neighbouring channels that are taken together: shorter runs stop the prefetcher, longer ones
# leave fewer tasks.
GROUP_BYTES = 4096
# Bytes of all values of a group, at most: more would not stay in a level 2 cache of 1 MiB between the two passes.
GROUP_CACHE = 512 * 1024
# Rows of a group that are read at a time, in large arrays half as many. With more the prefetcher loses some of them,
# with fewer sums are added up in float64 too often.
GROUP_ROWS = 16
# Elements (by their bytes) from a store to where the caches are told of one: processors do not foresee where the next
# run of stores begins. Less comes too late, more is thrown out again.
AHEAD_BYTES = 1024
# Bytes of an array from which on they are told: what is smaller is in the cache already, and telling costs time.
AHEAD_FROM = 3 * 1024 * 1024
# Bytes of a row below which groups are long runs, which processors do foresee: these are told of from 4 times the size.
SHORT_BYTES = 512
# Bytes of an output from which on it is stored past the caches: for smaller ones, stores that are told of are faster.
STREAM_BYTES = 128 * 1024 * 1024
# Threads that are to get equal shares, where that can be had: a machine with 4 cores is the usual one.
SHARES = 4


class Cut(NamedTuple):
    """How the work on (N, C, L) arrays is divided, and the memory that takes."""

    group: int  #: channels of a task
    chunks: int  #: tasks of a channel: ranges of images, or of each row where there are fewer images than chunks
    block_rows: int  #: of a block, whose sums are in the type of x
    block_length: int  #: elements of each of these rows
    ahead: int  #: elements from where it stores to where the caches are told that it is going to; 0: they are not told
    streaming: bool  #: whether to store past the caches
    slots: int  #: float64 values of working memory


@device
def cut_of(row):
    """The `Cut` that `cut` wrote."""
    return Cut(row[0], row[1], row[2], row[3], row[4], row[5] > 0, row[6])


@lru_cache(maxsize=1024)
def cut(images: int, channels: int, length: int, itemsize: int, arrays: int) -> Array:
    """Cut the work on (N, C, L) arrays of which `arrays` are read in both passes: a row of int64, see `cut_of`."""
    row = length * itemsize
    size = images * channels * row
    group, chunks = 1, 1
    if channels >= WHOLE_CHANNELS:
        cached = GROUP_CACHE // (arrays * images * row)
        group = max(min(-(-GROUP_BYTES // row), cached, channels // WHOLE_CHANNELS), 1)
        group = min(range(group, group // 2, -1), key=lambda each: -(-channels // (SHARES * each)) * each)
    else:
        chunks = max(min(-(-CHUNKS // channels), images * length // CHUNK_ELEMENTS), 1)
        even = SHARES // math.gcd(SHARES, channels)
        if chunks > 1:
            chunks = max(chunks // even, 1) * even
        if chunks > images:
            chunks = images * -(-chunks // images)
    block = BLOCK_BYTES // itemsize
    block_length = length if length <= 2 * block else block
    block_rows = GROUP_ROWS // (2 if arrays > 2 or size >= AHEAD_FROM else 1) if group > 1 else block
    block_rows = max(min(block // length, block_rows), 1)
    slots = channels * chunks * (2 * VECTOR_BYTES // itemsize + KEPT)
    foreseen = arrays < 3 and row < SHORT_BYTES
    ahead = AHEAD_BYTES // itemsize if size >= AHEAD_FROM * (4 if foreseen else 1) else 0
    return np.array(Cut(group, chunks, block_rows, block_length, ahead, size >= STREAM_BYTES, slots))


class Range(NamedTuple):
    """A chunk of a channel: its images from `image` up to `image_end`, of their rows `element` up to `element_end`."""

    image: int
    image_end: int
    element: int
    element_end: int


@device
def range_of(chunk, chunks, images, length):
    """Where a chunk of each channel lies."""
    if chunks <= images:
        return Range(chunk * images // chunks, (chunk + 1) * images // chunks, 0, length)
    cuts = chunks // images
    width = -(-length // (cuts * 64)) * 64
    first = chunk % cuts * width
    end = first + width
    image = chunk // cuts
    return Range(image, image + 1, first if first < length else length, end if end < length else length)
