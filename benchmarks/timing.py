"""Side-by-side timing: all candidates in one process, interleaved, judged by the 20th percentile.

Other programs take a core for milliseconds at a time, so that means and single runs say little; what is compared must
have met the same disturbances.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "SelfTimed",
    "Timing",
    "geometric_mean",
    "installed",
    "interleave",
    "machine",
    "markdown",
    "seconds_of",
    "settle",
    "write_json",
]

PERCENTILE = 20
BRIEF = 0.005  # seconds
REST = 0.005  # seconds after which the threads of other libraries have stopped spinning on the cores
PEERS = (
    "numba", "numpy", "scipy", "torch", "jax", "onnxruntime", "openvino", "keras", "tensorflow-cpu", "mlx",
    "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate: 20th percentile and median of its runs."""

    p20: float
    median: float
    runs: int

    @property
    def milliseconds(self) -> float:
        return self.p20 * 1e3


class SelfTimed(ABC):
    """A call that takes its own time: one in another process, whose way there and back is not to be measured."""

    @abstractmethod
    def seconds(self, repeat: int) -> float:
        """Call so many times; the seconds that it took."""

    def __call__(self) -> float:
        return self.seconds(1)


def seconds_of(call: Callable[[], object], repeat: int = 1) -> float:
    """Return the seconds of so many calls."""
    if isinstance(call, SelfTimed):
        return call.seconds(repeat)
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return time.perf_counter() - start


def interleave(
    calls: Mapping[str, Callable[[], object]], *, runs: int = 30, warmup: int = 3, seconds: float = 4.0
) -> dict[str, Timing]:
    """Time the calls in turn, each run of one beside a run of every other, in an order that rotates.

    Each gets `runs` timed runs, fewer (never below 5) where all of them together would take longer than `seconds`.
    Calls shorter than 50 microseconds are repeated within a run. Those shorter than `BRIEF` are timed after `settle`.
    """
    repeats, brief, total = {}, set(), 0.0
    for name, call in calls.items():
        for _ in range(warmup):
            call()
        once = max(seconds_of(call), 1e-7)
        repeats[name] = max(1, math.ceil(50e-6 / once))
        if once < BRIEF:
            brief.add(name)
        total += once * repeats[name] + (REST + 1e-3) * (name in brief)
    count = int(min(runs, max(5, seconds / total)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for run in range(count):
        for name in names[run % len(names) :] + names[: run % len(names)]:
            call, repeat = calls[name], repeats[name]
            if name in brief:
                settle(call)
            times[name].append(seconds_of(call, repeat) / repeat)
    return {
        name: Timing(float(np.percentile(each, PERCENTILE)), float(np.median(each)), count)
        for name, each in times.items()
    }


def settle(call: Callable[[], object]) -> None:
    """Let the threads of whoever ran before come to rest, then bring this call's threads and data back.

    Without it each library pays for those before it: idle threads of JAX and ONNX Runtime spin on the cores that the
    next one's need, which doubled everybody's times.
    """
    time.sleep(REST)
    start = time.perf_counter()
    while time.perf_counter() < start + 1e-3:
        call()


def installed(package: str) -> str | None:
    """Return the version of a peer, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(threads: int) -> dict[str, Any]:
    """Describe where and with what is measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        **{name: installed(name) or "not installed" for name in PEERS},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; NaN for none."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else math.nan


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table; numbers to three significant digits, what is missing as a dash."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def write_json(path: str | os.PathLike[str], results: Mapping[str, Any]) -> None:
    """Write results under a temporary name and rename."""
    temporary = Path(f"{os.fspath(path)}.tmp")
    temporary.write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
