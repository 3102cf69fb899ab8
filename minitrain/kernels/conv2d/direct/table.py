"""All the integers of a correlation in one row, so that a call hands over one array instead of many tuples.

The order is that of `Correlation`: the numbers of `problem`, `planes`, `phases`, `steps` and `places`, the lengths of
four tables, then the tables.
"""

import numpy as np
from numpy.typing import NDArray

from nbnorm.jit import device
from nbnorm.simd.memory import flat, item

__all__ = ["joined", "phases_of", "places_of", "planes_of", "problem_of", "steps_of", "tables_of"]

LENGTHS, TABLES = 25, 29  # where the lengths of the tables are, and where the first one begins

Table = NDArray[np.int64]


def joined(numbers: tuple[int, ...], tables: tuple[Table, ...]) -> Table:
    """Return the row for these numbers and for the tables segments, vectors, offsets and starts."""
    lengths = [table.size for table in tables]
    return np.concatenate([np.array([*numbers, *lengths], dtype=np.int64), *tables])


@device
def problem_of(row):
    return item(row, 0), item(row, 1), item(row, 2), item(row, 3), item(row, 4)


@device
def planes_of(row):
    return item(row, 5), item(row, 6), item(row, 7), item(row, 8), item(row, 9), item(row, 10)


@device
def phases_of(row):
    return item(row, 11), item(row, 12)


@device
def steps_of(row):
    return (item(row, 13), item(row, 14), item(row, 15), item(row, 16), item(row, 17), item(row, 18), item(row, 19),
            item(row, 20), item(row, 21))  # fmt: skip


@device
def places_of(row):
    return item(row, 22), item(row, 23), item(row, 24)


@device
def tables_of(row):
    """segments, vectors, offsets and starts."""
    a = TABLES
    b = a + item(row, LENGTHS)
    c = b + item(row, LENGTHS + 1)
    d = c + item(row, LENGTHS + 2)
    return flat(row[a:b]), flat(row[b:c]), flat(row[c:d]), flat(row[d:])
