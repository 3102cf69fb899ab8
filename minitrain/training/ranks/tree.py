"""Sums of arrays in a fixed order, whoever holds which of them: a binary tree over their indices.

The sum of [first, stop) is that of its left half, the largest power of two below its length, plus that of the rest.
Additions are those of the tree whatever is summed up where, so that a result has the same bits for any distribution. A
rank that holds consecutive ones sends the roots of the largest subtrees within them: one array where both the numbers
of parts and of ranks are powers of two.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbnorm.jit.arrays import Array

__all__ = ["Span", "subtrees", "summed"]

Span = tuple[int, int]  # of indices: first, stop


def _middle(first: int, stop: int) -> int:
    """Return where the left half of [first, stop) ends; it has two or more."""
    return first + (1 << (stop - first - 1).bit_length() - 1)


def subtrees(first: int, stop: int, total: int) -> list[Span]:
    """Return the largest nodes of the tree over [0, total) that make up [first, stop), in order.

    Examples
    --------
    >>> subtrees(0, 3, 8), subtrees(3, 6, 8), subtrees(4, 8, 8)
    ([(0, 2), (2, 3)], [(3, 4), (4, 6)], [(4, 8)])
    """
    found: list[Span] = []

    def visit(low: int, high: int) -> None:
        if low >= high or high <= first or low >= stop:
            return
        if first <= low and high <= stop:
            found.append((low, high))
            return
        middle = _middle(low, high)
        visit(low, middle)
        visit(middle, high)

    visit(0, total)
    return found


def summed(arrays: Mapping[Span, Array], first: int, stop: int) -> Array:
    """Return the sum of [first, stop) from nodes of the tree; one of them where it is there already."""
    if (first, stop) in arrays:
        return arrays[first, stop]
    middle = _middle(first, stop)
    total: Array = summed(arrays, first, middle) + summed(arrays, middle, stop)
    return total
