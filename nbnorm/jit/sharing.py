"""How many threads pay now, on a machine that other programs use, too.

A parallel region ends when its last thread does. Where another process has pushed one of them off its core, all others
wait for it, a few milliseconds at a time: two threads beside one busy process take several times as long as one. No
bit of a result depends on the number of threads, so how many run is free to choose at any moment: not more than there
are cores free.

Whoever runs many kernels in a row (a step, a prediction) says so with `begin` and `end`. Now and then `begin` looks at
what the system has counted since: the time that the cores had nothing to do, and the time that this process computed.
Together they are what other programs leave. Nothing is tried out, so nothing is slow for the sake of an experiment.

`NBNORM_SHARE_CORES=0` always runs all threads.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

import numba

from nbnorm.jit.internals.load import Reading, read_load
from nbnorm.jit.internals.threads import current_threads, set_threads

__all__ = ["ENABLED", "Sharing", "sharing"]

VARIABLE = "NBNORM_SHARE_CORES"
# Seconds between two looks. The system counts in hundredths of a second: with less than ten of them a core that is
# half busy cannot be told from a free one. With more, a step beside a program that has just begun is slow for longer. A
# look takes 60 microseconds, 160 beside a busy process (2 cores of an EPYC, 2026-11; `benchmarks.peers busy`).
INTERVAL = 0.1
# Cores that may be missing before a thread less runs. Less, and the ticks of the clock and the short tasks of a
# machine that is otherwise idle take threads away; more, and a process that computes a third of the time is not seen.
SLACK = 0.3


class Sharing:
    """Chooses how many threads run in a block of kernels.

    Parameters
    ----------
    enabled : bool
    read : callable
        Gives a `Reading`, or None.
    clock : callable

    Attributes
    ----------
    free : float
        Cores that were free for this process when it was looked at last; infinity before, and where nobody says.
    """

    def __init__(
        self,
        enabled: bool = True,
        read: Callable[[], Reading | None] = read_load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.free = math.inf
        self._read = read
        self._clock = clock
        self._before: Reading | None = None
        self._looking = threading.Lock()
        self.enable(enabled)

    def enable(self, enabled: bool) -> None:
        """Look from now on, or always run all threads: for whoever measures something else beside other processes."""
        self._before, self.free = None, math.inf
        self._next = -math.inf if enabled else math.inf

    def begin(self) -> int:
        """Let no more threads of Numba run than pay now; return what `end` wants to know.

        Returns
        -------
        int
            How many threads there were, 0 where nothing was changed.
        """
        if self._clock() >= self._next:
            self._look()
        if self.free == math.inf:
            return 0
        if self.free + SLACK >= numba.config.NUMBA_NUM_THREADS:  # more threads never run
            return 0
        there = current_threads()
        wanted = self.threads(there)
        if wanted == there:
            return 0
        set_threads(wanted)
        return there

    @staticmethod
    def end(before: int) -> None:
        """Let as many threads run as before `begin`."""
        if before:
            set_threads(before)

    def threads(self, most: int) -> int:
        """Return how many of at most so many threads pay now."""
        return most if self.free + SLACK >= most else max(1, int(self.free + SLACK))

    def forget(self) -> None:
        """Begin anew: in a forked child, which has computed nothing yet and may have got a lock that stays locked."""
        self._looking = threading.Lock()
        self._before = None
        self.free = math.inf

    def _look(self) -> None:
        if not self._looking.acquire(blocking=False):
            return  # another thread of this process does
        try:
            now, before = self._read(), self._before
            if now is None:
                self.free, self._next = math.inf, math.inf
                return
            self._before, self._next = now, now.clock + INTERVAL
            if before is not None:
                self.free = now.free_cores(before)
        finally:
            self._looking.release()


ENABLED = os.environ.get(VARIABLE, "1") != "0"
sharing = Sharing(ENABLED)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=sharing.forget)
