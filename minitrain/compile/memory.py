"""Lifetimes to offsets in one arena. Pure integers: no arrays, no layers."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Lifetime", "place"]

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size` bytes that holds something from time `first` to time `last`, both included."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Give each buffer an offset so that no two that live at one time overlap.

    Greedy by size: the largest first, each into the smallest gap that holds it between the buffers that were placed
    before and live at the same time (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net
    Inference", section 5.2).

    Returns
    -------
    offsets : list of int
        Multiples of `ALIGNMENT`, one for each lifetime.
    total : int
        Bytes of the arena.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for index in sorted(range(len(lifetimes)), key=lambda index: (-lifetimes[index].size, index)):
        wanted = lifetimes[index]
        neighbours = sorted(
            (offsets[other], offsets[other] + _aligned(lifetimes[other].size))
            for other in placed
            if lifetimes[other].first <= wanted.last and wanted.first <= lifetimes[other].last
        )
        offsets[index] = _smallest_gap(neighbours, wanted.size)
        placed.append(index)
    total = max((offsets[index] + _aligned(each.size) for index, each in enumerate(lifetimes)), default=0)
    return offsets, total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _smallest_gap(occupied: Sequence[tuple[int, int]], size: int) -> int:
    """Return the start of the tightest gap of at least `size` bytes; the end of everything where there is none."""
    best, best_gap = None, 0
    end = 0
    for start, stop in occupied:
        gap = start - end
        if gap >= size and (best is None or gap < best_gap):
            best, best_gap = end, gap
        end = max(end, stop)
    return end if best is None else best
