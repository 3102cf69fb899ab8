"""Output that may fail without taking the work down: a closed pipe, a full disk, a terminal that is gone."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable

__all__ = ["Output", "say"]


class Output:
    """One place that is written to; the first failure is a warning, and what comes after is not written.

    Parameters
    ----------
    name : str
        For the warning: "the progress of training".

    Attributes
    ----------
    failed : bool
        Whether it has failed. Set it to False to try again.

    Examples
    --------
    >>> output = Output("the log")
    >>> output.attempt(lambda: print("written"))
    written
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.failed = False

    def attempt(self, write: Callable[[], object]) -> None:
        """Write, unless that failed before.

        What is forgiven is what files and streams raise: OSError (pipe closed, disk full), and ValueError (stream
        closed by somebody, characters that a terminal's encoding lacks).
        """
        if self.failed:
            return
        try:
            write()
        except (OSError, ValueError) as error:
            self.failed = True
            warnings.warn(f"{self.name} can no longer be written ({error}); the work goes on", stacklevel=3)


def say(line: str) -> None:
    """Print a line that the work does not depend on: a run goes on, and its files are whole, whoever reads this.

    Where nobody does any more, what is left of standard output goes nowhere.
    """
    try:
        print(line, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
