"""The working memory of batch norm over rows: for each chunk of a channel two vectors of sums, and what is kept of it.

The sums are in float64, what is kept is in the type of x: KEPT values, see `runs.CENTER` and those after it.
"""

from nbnorm.jit import device
from nbnorm.kernels.runs import CENTER, KEPT, SCALE, SHIFT, Table, Totals
from nbnorm.kernels.statistics import Factors
from nbnorm.simd.memory import reinterpreted
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import LANES_FLOAT64, add, lanes_of, load, splat, store

__all__ = [
    "add_lanes",
    "clear_sums",
    "keep_factors",
    "kept_factors",
    "kept_of",
    "sum_of_chunks",
    "table_of",
    "totals_of",
]


@device
def _slot_of(x, chunk):
    return chunk * (2 * lanes_of(x) + KEPT)


@device
def totals_of(x, slots, chunk):
    """Where the sums of a chunk are."""
    return Totals(slots, _slot_of(x, chunk), _slot_of(x, chunk) + lanes_of(x))


@device
def kept_of(x, chunk):
    """Where what is kept of a chunk begins, in the memory reinterpreted as values like x."""
    return (_slot_of(x, chunk) + 2 * lanes_of(x)) * (lanes_of(x) // LANES_FLOAT64)


@device
def table_of(x, slots, c, chunks, chunk):
    """What is kept of the channels from c on, in one of the chunks of each."""
    return Table(reinterpreted(slots, x), kept_of(x, c * chunks + chunk), kept_of(x, chunks) - kept_of(x, 0))


@device
def keep_factors(kept, k, factors):
    kept[k + CENTER], kept[k + SCALE], kept[k + SHIFT] = factors


@device
def kept_factors(kept, k):
    return Factors(kept[k + CENTER], kept[k + SCALE], kept[k + SHIFT])


@device
def clear_sums(totals):
    zero, lanes = splat(0.0), lanes_of(totals.values)
    for i in range(totals.first, 2 * totals.second - totals.first, lanes):
        store(totals.values, i, zero)


@device
def add_lanes(totals):
    """Put the sum of the lanes of each of the two vectors into its first lane."""
    slots, first, second = totals
    half, lanes = second - first, lanes_of(slots)
    a, b = load(slots, first), load(slots, second)
    for i in range(lanes, half, lanes):
        a, b = add(a, load(slots, first + i)), add(b, load(slots, second + i))
    slots[first], slots[second] = sum_lanes(a), sum_lanes(b)


@device
def sum_of_chunks(x, slots, c, chunks):
    """The two sums of channel c: those of its chunks, in order."""
    a = b = 0.0
    for chunk in range(c * chunks, (c + 1) * chunks):
        _, first, second = totals_of(x, slots, chunk)
        a += slots[first]
        b += slots[second]
    return a, b
