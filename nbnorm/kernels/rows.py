"""How batch norm's work is cut where the values of a channel lie in rows: (N, C, L) with L > 1.

It is cut by shape alone. Usually a task is a group of whole channels, summed and then normalized while they are in the
cache. Channels that are few for many threads are cut into parts: all parts are summed, then all are normalized.
"""

from functools import lru_cache
from typing import NamedTuple

from nbnorm._jit import device
from nbnorm.simd.vectors import VECTOR_BYTES

BLOCK_BYTES = 256 * VECTOR_BYTES  # a float32 sum is this long (64 vectors for each of 4 accumulators), then in float64
WHOLE_CHANNELS = 16  # from this many channels on, tasks are whole channels
PARTS = 32  # tasks to cut fewer channels into, of at least PART_ELEMENTS
PART_ELEMENTS = 4096
GROUP_BYTES = 4096  # neighbouring channels with shorter rows are taken together, for the sake of the prefetcher
GROUP_CACHE = 256 * 1024  # unless all their values are more than this
GROUP_ROWS = 16
STREAM_BYTES = 24 * 1024 * 1024  # outputs from this size on are not going to be found in the cache

SUM, FINISH, APPLY = 1, 2, 4  # phases, one after the other
WHOLE = SUM | FINISH | APPLY  # or all in one, where a task has whole channels


class Plan(NamedTuple):
    """How the work is cut, and the lengths that the kernels go by."""

    group: int  # channels in a task
    parts: int  # tasks for each channel; ranges of images, or of each row where there are fewer images than parts
    rows: int  # rows in a block, whose sums are in the type of x
    step: int  # elements of a row in a block
    streaming: bool  # store past the caches


@lru_cache(maxsize=1024)
def plan(images: int, channels: int, length: int, itemsize: int, arrays: int) -> Plan:
    """Cut the work on (N, C, L) arrays of which `arrays` are read in both passes."""
    row = length * itemsize
    group, parts = 1, 1
    if channels >= WHOLE_CHANNELS:
        cached = GROUP_CACHE // (arrays * images * row)
        group = max(min(-(-GROUP_BYTES // row), cached, channels // WHOLE_CHANNELS), 1)
    else:
        parts = max(min(-(-PARTS // channels), images * length // PART_ELEMENTS), 1)
        if parts > images:
            parts = images * -(-parts // images)
    block = BLOCK_BYTES // itemsize
    step = length if length <= 2 * block else block
    rows = max(min(block // length, GROUP_ROWS if group > 1 else block), 1)
    return Plan(group, parts, rows, step, images * channels * row >= STREAM_BYTES)


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
def sum_lanes(totals, t, lanes):
    """The sums of the lanes of two vectors, at t and behind it."""
    first = second = 0.0
    for k in range(t, t + lanes):
        first += totals[k]
        second += totals[k + lanes]
    return first, second
