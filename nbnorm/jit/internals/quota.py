"""How many cores this process may use: its affinity, and what a container's control groups allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "cpu_quota"]

ROOT = Path("/")


def available_cores(root: Path = ROOT) -> int:
    """Return the cores of the process's affinity, or as many as its quota of time keeps busy where these are fewer.

    A quota of 1.5 cores is two threads: both run three quarters of the time, where one would leave a third unused.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the cores that the control groups of this process leave it, None where they set no limit.

    The least of its own group and those around it, of version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`). Files
    that are missing or make no sense set no limit.

    Parameters
    ----------
    root : path
        Of the file system, for tests.
    """
    limits = [limit for folder in _folders(root) for limit in _limits(folder)]
    return min(limits, default=None)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of the process's groups and all groups around them, as far as a container sees them."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        controllers, _, name = line.partition(":")[2].partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        for base in {mount / controllers, mount / "cpu"} if controllers else {mount}:
            group = base / name.lstrip("/")
            yield group
            yield from (each for each in group.parents if each == base or base in each.parents)


def _limits(folder: Path) -> Iterator[float]:
    pair = _read(folder / "cpu.max").split()
    if not pair:
        pair = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    try:
        quota, period = (float(each) for each in pair)  # "max" is no number
    except ValueError:
        return
    if quota > 0 and period > 0 and math.isfinite(quota):
        yield quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
