"""How batch norm's work is cut where the values of a channel lie in rows: (N, C, L) with L > 1.

It is cut by shape alone. Usually a task is a group of whole channels, summed and then normalized while they are in the
cache. Channels that are few for many threads are cut into parts: all parts are summed, then all are normalized.
"""

from functools import lru_cache

from nbnorm._jit import device
from nbnorm.simd.vectors import VECTOR_BYTES, lanes_of

BLOCK_BYTES = 64 * VECTOR_BYTES  # a float32 sum is this long (16 vectors for each of 4 accumulators), then in float64
WHOLE_CHANNELS = 16  # from this many channels on, tasks are whole channels
PARTS = 32  # tasks to cut fewer channels into, of at least PART_ELEMENTS
PART_ELEMENTS = 4096
GROUP_BYTES = 4096  # neighbouring channels with shorter rows are taken together, for the sake of the prefetcher
GROUP_CACHE = 256 * 1024  # unless all their values are more than this
GROUP_ROWS = 16
STREAM_BYTES = 24 * 1024 * 1024  # outputs from this size on are not going to be found in the cache

SUM, FINISH, APPLY = 1, 2, 4  # phases, one after the other
WHOLE = SUM | FINISH | APPLY  # or all in one, where a task has whole channels

Plan = tuple[int, int, int, int, bool]


@lru_cache(maxsize=1024)
def plan(images: int, channels: int, length: int, itemsize: int, arrays: int) -> tuple[Plan, int]:
    """Cut the work on (N, C, L) arrays of which `arrays` are read in both passes.

    Returns the plan and the float64 values of scratch memory it needs. A plan is

    - the number of channels in a task,
    - the number of tasks for each channel: ranges of images, or of each row where there are fewer images than parts,
    - the rows, and the elements of a row, in a block, whose sums are in the type of x,
    - whether to store past the caches.
    """
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
    slots = channels * parts * 3 * (VECTOR_BYTES // itemsize)
    return (group, parts, rows, step, images * channels * row >= STREAM_BYTES), slots


@device
def slot_of(x, p):
    """Where the scratch memory of task p of whole channels (or part p) begins: three vectors' lanes.

    The first two hold sums (their totals in the end), the third what becomes of them.
    """
    return p * 3 * lanes_of(x)


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
def sum_lanes(scratch, t, lanes):
    """Put the sum of the lanes of the two vectors at t into their first lanes."""
    first = second = 0.0
    for k in range(t, t + lanes):
        first += scratch[k]
        second += scratch[k + lanes]
    scratch[t] = first
    scratch[t + lanes] = second
