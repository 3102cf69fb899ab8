"""Arrays in memory-mapped files: read where they are, and given back to the system as they are read."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nbnorm.jit.arrays import Array

__all__ = ["MappedPages", "chunks", "is_mapped", "some_of"]

# Bytes of mapped files that stay in memory, about. Less is given back more often, which costs a system call and, for
# pages that are still in the system's cache, 0.1 microseconds each to map again; more is memory for nothing.
LIMIT = 64 << 20
AROUND = 2 << 20  # bytes that Linux maps around one that is read, at most: a large page
CHUNK = 8 << 20  # bytes that are looked at at a time
ROWS = 16  # samples from here and there that are read at a time
DROP = getattr(mmap, "MADV_DONTNEED", None)  # not on every system


def is_mapped(array: Any) -> bool:
    """Whether the memory of an array is a file's."""
    return _owner(array)[0] is not None


class MappedPages:
    """Counts what is read of memory-mapped arrays, and gives pages back before they are many.

    The pages of a file that was read count as memory of the process until the system wants them back. A file that is
    mapped copy-on-write is left alone: what was changed in memory would be lost.

    Parameters
    ----------
    arrays : iterable of arrays
    """

    def __init__(self, arrays: Iterable[Any]) -> None:
        self._files: list[mmap.mmap] = []
        self._row = 0
        for each in arrays:
            file, shared = _owner(each)
            if file is not None and shared and DROP is not None:
                self._row += max(each[:1].nbytes, 1)
                if not any(file is known for known in self._files):
                    self._files.append(file)
        self._read = 0

    def pieces(self, rows: int) -> Iterator[slice]:
        """Divide so many samples into what may be read at a time, from here and there, before `read` is told."""
        size = ROWS if self._files else max(rows, 1)
        for first in range(0, rows, size):
            yield slice(first, min(first + size, rows))

    def read(self, rows: int, scattered: bool = False) -> None:
        """Take note that so many samples were read, one after the other or here and there."""
        if not self._files:
            return
        self._read += rows * (max(self._row, AROUND) if scattered else self._row)
        if self._read > LIMIT:
            self._read = 0
            for file in self._files:
                file.madvise(DROP)  # type: ignore[arg-type]


def _owner(array: Any) -> tuple[mmap.mmap | None, bool]:
    """Return the mapped file that an array is a view of, and whether what is written there is the file's."""
    shared = False
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            shared = array.mode in ("r", "r+", "w+")
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return (array, shared) if isinstance(array, mmap.mmap) else (None, False)


def chunks(array: Array) -> Iterator[Array]:
    """Yield an array in pieces of a few megabytes; of a mapped one, no more than a few of them stay in memory."""
    pages = MappedPages([array])
    rows = max(CHUNK // max(array[:1].nbytes, 1), 1)
    for first in range(0, len(array), rows):
        yield array[first : first + rows]
        pages.read(rows)


def some_of(array: Array, rows: npt.NDArray[np.intp]) -> Array:
    """Return a copy of these samples; of a mapped array, no more than a few pages stay in memory."""
    if not is_mapped(array):
        return np.asarray(array[rows])
    pages = MappedPages([array])
    some = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for piece in pages.pieces(len(rows)):
        some[piece] = array[rows[piece]]
        pages.read(len(rows[piece]), scattered=True)
    return some
