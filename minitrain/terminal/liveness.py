"""Whether a process that wrote its number down still runs: numbers are given anew, times of starting are not."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_alive", "this_process"]


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others, for `is_alive`; JSON-able."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": platform.node()}


def is_alive(process: Any) -> bool:
    """Tell whether a process that `this_process` described runs. Of one on another machine nobody knows: True."""
    if not isinstance(process, Mapping) or not isinstance(process.get("pid"), int) or process["pid"] < 1:
        return False
    if process.get("host") != platform.node():
        return True
    if os.name != "posix":  # os.kill would end it there
        return bool(process["pid"] == os.getpid())
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, for somebody else
        pass
    return bool(process.get("started") == _started(process["pid"]))


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks of this boot of the machine; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    return None if state == "Z" else f"{boot}:{ticks}"
