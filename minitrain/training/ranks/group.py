"""What ranks say to each other: a communicator of mpi4py behind the few words that training needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from minitrain.optional import require
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["Alone", "Group", "Ranks", "group_of"]

T = TypeVar("T")
Doubles = npt.NDArray[np.float64]
FAILED = 1  # the exit code of a program that a rank ends


class Group(Protocol):
    """Ranks that train together, as one of them sees them. All of them make the same calls in the same order."""

    rank: int
    size: int

    def gathered(self, given: T) -> list[T]:
        """Return what each rank gave, in the order of the ranks; anything that can be pickled."""

    def rows(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the rows of all ranks, in the order of the ranks; `counts` of them each."""

    def add_up(self, own: Array, total: Array) -> None:
        """Overwrite `total` with the sum of the arrays of all ranks."""

    def share(self, array: Array) -> None:
        """Overwrite an array with that of the first rank."""

    def place(self, rank: int) -> str:
        """Return what messages call a rank, and the node that it runs on."""

    def abort(self, message: str) -> None:
        """Say what is wrong and end all ranks; where there is one, nothing: its exceptions end it."""


class Alone:
    """One process."""

    rank = 0
    size = 1

    def gathered(self, given: T) -> list[T]:
        return [given]

    def rows(self, own: Array, counts: Sequence[int]) -> Array:
        return own

    def add_up(self, own: Array, total: Array) -> None:
        total[...] = own

    def share(self, array: Array) -> None:
        """There is nobody to share with."""

    def place(self, rank: int) -> str:
        return "this process"

    def abort(self, message: str) -> None:
        """There is nobody else to end."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Alone:
        return self


class Ranks:
    """The ranks of a communicator of mpi4py.

    The threads of a node are shared out among its ranks, unless `NUMBA_NUM_THREADS` or somebody else says how many run.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm

    Raises
    ------
    ImportError
        mpi4py is not installed.
    TypeError
        No such communicator.
    """

    def __init__(self, comm: Any) -> None:
        self._mpi: Any = require("mpi4py.MPI", "training on several ranks")
        if not isinstance(comm, self._mpi.Intracomm):
            raise TypeError(mismatch("comm", "a communicator of mpi4py, such as MPI.COMM_WORLD", repr(comm)))
        self._comm = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self._nodes: list[str] = comm.allgather(self._mpi.Get_processor_name())
        _share_threads(self._nodes.count(self._nodes[self.rank]))

    def gathered(self, given: T) -> list[T]:
        return list(self._comm.allgather(given))

    def rows(self, own: Array, counts: Sequence[int]) -> Array:
        width = own.shape[1]
        every = np.empty((sum(counts), width), own.dtype)
        sizes = [count * width for count in counts]
        self._comm.Allgatherv(np.ascontiguousarray(own), [every, sizes])
        return every

    def add_up(self, own: Array, total: Array) -> None:
        self._comm.Allreduce(own, total)

    def share(self, array: Array) -> None:
        self._comm.Bcast(array)

    def place(self, rank: int) -> str:
        return f"rank {rank} of {self.size} (node {self._nodes[rank]})"

    def abort(self, message: str) -> None:
        if self.size > 1:
            print(f"{self.place(self.rank)}: {message}", file=sys.stderr, flush=True)
            self._comm.Abort(FAILED)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Alone, ()  # in another process there are no ranks


def group_of(comm: Any) -> Group:
    """Return the ranks of a communicator, or this process alone where there is none."""
    return Alone() if comm is None else Ranks(comm)


def _share_threads(ranks_of_node: int) -> None:
    most = int(numba.config.NUMBA_NUM_THREADS)
    if "NUMBA_NUM_THREADS" not in os.environ and numba.get_num_threads() == most:
        numba.set_num_threads(max(most // ranks_of_node, 1))
