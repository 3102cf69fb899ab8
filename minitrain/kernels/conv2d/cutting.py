"""How the work of every convolution is cut: sizes in whole vectors, even shares, tasks and workers.

What is computed follows from the shapes and the width of the vectors alone. The number of threads only decides how many
workers get scratch of their own, which moves no result by a bit.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from nbnorm.simd.vectors import LANES_FLOAT32

__all__ = ["TASKS", "Row", "ceil_div", "even", "rounded", "workers"]

Row = NDArray[np.int64]

# Tasks to make, at least, where the shapes allow it. Fewer leave some of 16 threads without work, and many threads
# wait for the last task; more are smaller, and each of them packs or transforms anew what it shares with the next one.
# Found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.
TASKS = 16


def ceil_div(size: int, share: int) -> int:
    """Shares of `share` that `size` needs, the last one perhaps smaller.

    Examples
    --------
    >>> ceil_div(9, 4)
    3
    """
    return -(-size // share)


def even(size: int, most: int) -> int:
    """The size of shares of at most `most`, alike as far as they can be.

    Examples
    --------
    >>> even(100, 64)
    50
    """
    return ceil_div(size, ceil_div(size, most))


def rounded(size: int) -> int:
    """Up to a multiple of a float32 vector, which keeps what follows aligned."""
    return ceil_div(size, LANES_FLOAT32) * LANES_FLOAT32


def workers(tasks: int) -> int:
    """How many workers share so many tasks: each has scratch of its own and runs on a thread of its own."""
    return min(numba.config.NUMBA_NUM_THREADS, tasks)
