"""What other programs leave of the processor: idle time of the cores that this process may use, and its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Reading", "read_load"]

STAT = Path("/proc/stat")
IDLE, WAITING = 3, 4  # columns after a core's name: time it had nothing to do, or waited for a disk


class Reading(NamedTuple):
    """What was so far, in seconds.

    Attributes
    ----------
    clock : float
    idle : float
        Of all cores that the process may use, together.
    own : float
        That the process has computed, all threads together.
    """

    clock: float
    idle: float
    own: float

    def free_cores(self, before: Reading) -> float:
        """Return how many cores were free for the process since an earlier reading: those it used, and idle ones."""
        return (self.idle - before.idle + self.own - before.own) / max(self.clock - before.clock, 1e-9)


def read_load(stat: Path = STAT) -> Reading | None:
    """Return a reading, None where the system does not say (Linux does)."""
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks, found = 0, 0
        for line in stat.read_text(encoding="ascii").splitlines():
            name, *columns = line.split()
            if name in cores:
                ticks += int(columns[IDLE]) + int(columns[WAITING])
                found += 1
            elif found and not name.startswith("cpu"):
                break
        if found < len(cores):
            return None
        return Reading(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())
    except (OSError, ValueError, IndexError, AttributeError):
        return None
