"""How batch norm's work is cut where the values of a channel lie in rows: (N, C, L) with L > 1.

It is cut by shape alone. Usually a task is a group of whole channels, summed and then normalized while they are in the
cache. Channels that are few for many threads are cut into parts: all parts are summed, then all are normalized.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbnorm.jit import device
from nbnorm.kernels.loops import CENTER, KEPT, SCALE, SHIFT
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import LANES_FLOAT64, VECTOR_BYTES, add, lanes_of, load, splat, store

BLOCK_BYTES = 64 * VECTOR_BYTES  # a float32 sum is this long (16 vectors for each of 4 accumulators), then in float64
WHOLE_CHANNELS = 16  # from this many channels on, tasks are whole channels
PARTS = 32  # tasks to cut fewer channels into, of at least PART_ELEMENTS
PART_ELEMENTS = 4096
GROUP_BYTES = 4096  # neighbouring channels with shorter rows are taken together, for the sake of the prefetcher
GROUP_CACHE = 512 * 1024  # unless all their values are more than this
GROUP_ROWS = 16  # read at a time, in large arrays half as many: the prefetcher can follow no more
# Processors do not foresee where the next run of stores begins: in large arrays it is announced.
AHEAD_BYTES, AHEAD_FROM, SHORT_BYTES = 1024, 3 * 1024 * 1024, 512
STREAM_BYTES = 128 * 1024 * 1024  # for smaller outputs, announced stores are faster than those past the caches

SHARES = 4  # threads that are to get equal shares, where that can be had

SUM, FINISH, APPLY = 1, 2, 4  # phases, one after the other
WHOLE = SUM | FINISH | APPLY  # or all in one, where a task has whole channels


@lru_cache(maxsize=1024)
def plan(images: int, channels: int, length: int, itemsize: int, arrays: int) -> tuple[NDArray[Any], int]:
    """Cut the work on (N, C, L) arrays of which `arrays` are read in both passes.

    Returns the plan and the float64 values of scratch memory it needs. A plan is an array, as tuples take Numba long:

    - the number of channels in a task,
    - the number of tasks for each channel: ranges of images, or of each row where there are fewer images than parts,
    - the rows, and the elements of a row, in a block, whose sums are in the type of x,
    - the elements from where it stores to where the caches are told that it is going to,
    - whether to store past the caches.
    """
    row = length * itemsize
    size = images * channels * row
    group, parts = 1, 1
    if channels >= WHOLE_CHANNELS:
        cached = GROUP_CACHE // (arrays * images * row)
        group = max(min(-(-GROUP_BYTES // row), cached, channels // WHOLE_CHANNELS), 1)
        group = min(range(group, group // 2, -1), key=lambda each: -(-channels // (SHARES * each)) * each)
    else:
        parts = max(min(-(-PARTS // channels), images * length // PART_ELEMENTS), 1)
        even = SHARES // math.gcd(SHARES, channels)
        if parts > 1:
            parts = max(parts // even, 1) * even
        if parts > images:
            parts = images * -(-parts // images)
    block = BLOCK_BYTES // itemsize
    step = length if length <= 2 * block else block
    rows = GROUP_ROWS // (2 if arrays > 2 or size >= AHEAD_FROM else 1) if group > 1 else block
    rows = max(min(block // length, rows), 1)
    slots = channels * parts * (2 * VECTOR_BYTES // itemsize + KEPT)
    foreseen = arrays < 3 and row < SHORT_BYTES  # groups of short rows are long runs
    ahead = AHEAD_BYTES // itemsize if size >= AHEAD_FROM * (4 if foreseen else 1) else 0
    return np.array([group, parts, rows, step, ahead, size >= STREAM_BYTES]), slots


@device
def slot_of(x, p):
    """Where the scratch memory of a channel's part begins: two vectors of sums, then KEPT values like x."""
    return p * (2 * lanes_of(x) + KEPT)


@device
def kept_of(x, p):
    """Where what is kept of a channel's part begins in the scratch memory reinterpreted as values like x."""
    return (slot_of(x, p) + 2 * lanes_of(x)) * (lanes_of(x) // LANES_FLOAT64)


@device
def keep_factors(table, k, factors):
    table[k + CENTER], table[k + SCALE], table[k + SHIFT] = factors


@device
def kept_factors(table, k):
    return table[k + CENTER], table[k + SCALE], table[k + SHIFT]


@device
def kept_step(x, parts):
    """From what is kept of a channel to what is kept of the next one."""
    return kept_of(x, parts) - kept_of(x, 0)


@device
def bounds(part, parts, images, length):
    """first image, end image, first element of the row, end element"""
    if parts <= images:
        return part * images // parts, (part + 1) * images // parts, 0, length
    cuts = parts // images
    step = -(-length // (cuts * 64)) * 64
    start = part % cuts * step
    end = start + step
    return part // cuts, part // cuts + 1, start if start < length else length, end if end < length else length


@device
def clear_sums(x, scratch, t):
    zero, lanes = splat(0.0), lanes_of(scratch)
    for k in range(t, t + 2 * lanes_of(x), lanes):
        store(scratch, k, zero)


@device
def add_lanes(x, scratch, t):
    """Put the sum of the lanes of the two vectors at t into their first lanes."""
    half, lanes = lanes_of(x), lanes_of(scratch)
    first, second = load(scratch, t), load(scratch, t + half)
    for k in range(lanes, half, lanes):
        first, second = add(first, load(scratch, t + k)), add(second, load(scratch, t + half + k))
    scratch[t], scratch[t + half] = sum_lanes(first), sum_lanes(second)
