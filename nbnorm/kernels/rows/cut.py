"""How the work on rows is divided into integers, by shape alone.

The constants were found with `benchmarks.peers norms` on 2 cores of an AVX2 EPYC (Zen 3), 2026-11.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nbnorm.jit import device
from nbnorm.jit.arrays import Array

__all__ = ["BLOCK_ROWS", "TASKS", "TASKS_WITH_SUMS", "Cut", "Rows", "cut", "cut_of", "rows_of_task"]

# Elements of a task, at least: fewer take less time than a thread needs to begin them.
TASK_ELEMENTS = 16 * 1024
# Tasks to cut the work into: more would not be better shared by up to 32 threads, fewer would idle some of them. Where
# each has sums of its own of the gradients of parameters, half as many: they are memory that is written and read.
TASKS, TASKS_WITH_SUMS = 64, 32
# Rows that are summed and differentiated at once, whose gradients of parameters stay in registers. More leave the level
# 2 cache sooner, fewer spend the time on reading and writing these sums.
BLOCK_ROWS = 8
# Bytes of an output from which on it is stored past the caches: of smaller ones whoever reads it next finds some there.
# Outputs of 9 to 18 MiB then take 0.7 to 1.0 of the time forward, those of 4 to 8 MiB 1.0 to 1.2; gradients of 4 to 18
# MiB take 0.6 to 0.8. Found with `benchmarks.peers norms` on 2 cores of an AVX-512 Xeon, 2026-11.
STREAM_BYTES, GRADIENT_STREAM_BYTES = 12 * 1024 * 1024, 4 * 1024 * 1024


class Cut(NamedTuple):
    """How rows are divided among tasks, and what is done to them."""

    rows: int  #: of a task
    groups: int  #: rows of a sample, which have parameters of their own
    centered: bool  #: whether the mean is taken away
    relu: bool
    by_output: bool  #: whether y says what the ReLU cut off; otherwise it is computed anew
    streaming: bool  #: whether to store past the caches


@device
def cut_of(row):
    """The `Cut` that `cut` wrote."""
    return Cut(row[0], row[1], row[2] > 0, row[3] > 0, row[4] > 0, row[5] > 0)


class Rows(NamedTuple):
    """What is cut: `number` rows of `length` elements, `groups` of them a sample."""

    number: int
    length: int
    groups: int
    itemsize: int


def rows_of_task(rows: Rows, unit: int, tasks: int) -> int:
    """Return how many rows a task has: a multiple of `unit`, so that there are about so many tasks."""
    each = max(min(-(-TASK_ELEMENTS // rows.length), rows.number), -(-rows.number // tasks), 1)
    return -(-each // unit) * unit


@lru_cache(maxsize=1024)
def cut(rows: Rows, unit: int, tasks: int, backward: bool, centered: bool, relu: bool, by_output: bool) -> Array:
    """Cut rows into about so many tasks of a multiple of `unit` rows: a row of int64, see `cut_of`."""
    streaming = rows.number * rows.length * rows.itemsize >= (GRADIENT_STREAM_BYTES if backward else STREAM_BYTES)
    return np.array(Cut(rows_of_task(rows, unit, tasks), rows.groups, centered, relu, by_output, streaming), np.int64)
