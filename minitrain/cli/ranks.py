"""The ranks of an MPI program, where the command line was started as one."""

from __future__ import annotations

import os
import sys
from typing import Any

from minitrain.optional import require
from minitrain.terminal.output import say

__all__ = ["Crew", "communicator"]

# How many ranks there are, as MPICH and what is made of it, Open MPI and Slurm tell their processes.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")


def communicator() -> Any:
    """Return the communicator of all ranks, or None where this process is no rank.

    Raises
    ------
    ImportError
        It is one of several ranks, and mpi4py is not installed.
    """
    if "mpi4py.MPI" not in sys.modules and not any(os.environ.get(name, "1") != "1" for name in SIZES):
        return None
    return require("mpi4py.MPI", "training on several ranks").COMM_WORLD


class Crew:
    """The ranks of this program; one process alone is a crew, too.

    Attributes
    ----------
    comm : mpi4py.MPI.Intracomm or None
    is_first : bool
        Whether this rank talks and writes.
    """

    def __init__(self) -> None:
        self.comm = communicator()
        self.is_first = self.comm is None or self.comm.Get_rank() == 0

    def wait(self) -> None:
        """Return once all ranks are here: one that leaves with an exit code ends the others."""
        if self.comm is not None:
            self.comm.Barrier()

    def say(self, line: str) -> None:
        """Print a line, on the first rank."""
        if self.is_first:
            say(line)
