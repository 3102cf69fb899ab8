"""Matrices transposed on their way from one array to another, on all threads: NumPy's copy has one, and no squares."""

import numpy as np

from nbnorm.jit import kernel, prange
from nbnorm.simd.memory import flat
from nbnorm.simd.transpose import store_transposed
from nbnorm.simd.vectors import lanes_of

__all__ = ["turn"]

COLUMNS = 32  # of a task: whole cache lines of each row, and as many rows of the result, which fit the nearest cache


@kernel
def turn(x, y):
    """y[b, j, i] = x[b, i, j] for x (B, rows, columns)."""
    number, rows, columns = x.shape
    lanes, across = lanes_of(x), -(-columns // COLUMNS)
    places = np.empty(lanes_of(x), np.int64)
    for i in range(lanes):
        places[i] = i * rows
    for task in prange(number * across):
        k, first = np.intp(task) // across, np.intp(task) % across * COLUMNS
        size, last = lanes_of(x), min(first + COLUMNS, columns)
        source, target, table = flat(x), flat(y), flat(places)
        for i in range(0, rows, size):
            for j in range(first, last, size):
                store_transposed(
                    source, (k * rows + i) * columns + j, columns, min(rows - i, size), min(last - j, size),
                    target, (k * columns + j) * rows + i, table, 0,
                )  # fmt: skip
