"""One tree in a process of its own, for the gate: runs a case on request and answers with a time.

The gate's side is `Worker`; the process runs this file as a script. Requests and answers are lines of JSON. The
process takes nbnorm and minitrain from the tree, and the benchmarks from beside this file.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# Name of a case: module, class, method, parameters. One thread shows the code, all threads what users see.
CASES: dict[str, tuple[str, str, str, tuple[Any, ...]]] = {
    "batch norm forward, 128x16x32x32, 1 thread": (
        "benchmark_batch_norm", "BatchNorm", "time_forward", ("resnet20 128x16x32x32", "1")),
    "batch norm backward, 128x16x32x32, 1 thread": (
        "benchmark_batch_norm", "BatchNorm", "time_backward", ("resnet20 128x16x32x32", "1")),
    "batch norm infer, 128x16x32x32, 1 thread": (
        "benchmark_batch_norm", "BatchNorm", "time_infer", ("resnet20 128x16x32x32", "1")),
    "batch norm forward, 32x64x56x56": (
        "benchmark_batch_norm", "BatchNorm", "time_forward", ("resnet50 32x64x56x56", "all")),
    "batch norm backward, 32x64x56x56": (
        "benchmark_batch_norm", "BatchNorm", "time_backward", ("resnet50 32x64x56x56", "all")),
    "batch norm forward, 64x128, 1 thread": (
        "benchmark_batch_norm", "BatchNorm", "time_forward", ("dense 64x128", "1")),
    "conv forward, 3x3, 16 of 32x32, 1 thread": (
        "benchmark_conv", "Conv2d", "time_forward", ("resnet20 3x3, 16 of 32x32", "1")),
    "conv backward, 3x3, 16 of 32x32, 1 thread": (
        "benchmark_conv", "Conv2d", "time_backward", ("resnet20 3x3, 16 of 32x32", "1")),
    "conv forward, 3x3, 64 of 8x8, 1 thread": (
        "benchmark_conv", "Conv2d", "time_forward", ("resnet20 3x3, 64 of 8x8", "1")),
    "conv backward, 3x3, 64 of 8x8, 1 thread": (
        "benchmark_conv", "Conv2d", "time_backward", ("resnet20 3x3, 64 of 8x8", "1")),
    "training step, mlp, 1 thread": ("benchmark_nets", "TrainingStep", "time_step", ("mlp", "1")),
    "training step, lenet, 1 thread": ("benchmark_nets", "TrainingStep", "time_step", ("lenet", "1")),
    "training step, lenet": ("benchmark_nets", "TrainingStep", "time_step", ("lenet", "all")),
    "inference, lenet, batch 1": ("benchmark_nets", "Inference", "time_predict", ("lenet", 1)),
}  # fmt: skip

RUN_SECONDS = 0.02  # of one run, that is of all its calls
MOST_CALLS = 200


class WorkerError(RuntimeError):
    """A process of the gate failed."""


class Worker:
    """A process that runs cases in one tree; a context manager."""

    def __init__(self, tree: Path, cache: Path) -> None:
        self.tree = tree
        # The two trees compute in turn, a fiftieth of a second each: whoever looks at the load sees a busy machine.
        environment = dict(os.environ, NUMBA_CACHE_DIR=str(cache), NBNORM_SHARE_CORES="0")
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def prepare(self, case: str) -> int:
        """Set a case up and return how many calls of it make a run; 0 if that raised, which is printed."""
        return int(self._ask({"case": case}))

    def run(self, calls: int) -> float:
        """Call the case that was set up; return the 20th percentile of the times in seconds."""
        return self._ask({"calls": calls})

    def _ask(self, request: dict[str, Any]) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says so
        answer = self._process.stdout.readline()
        if not answer:
            raise WorkerError(f"{self.tree}: the process ended at {request}; its message is above")
        return float(json.loads(answer))


def serve(tree: Path) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the measured code prints is no answer
    load(tree)
    call = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: float = 0
        if "calls" in request:
            answer = measure(call, request["calls"])
        else:
            try:
                call = set_up(request["case"])
                answer = calls_of(call)
            except Exception:
                traceback.print_exc()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load(tree: Path) -> None:
    """Import the packages from the tree, then make the benchmarks beside this file importable."""
    sys.path[0] = str(tree)
    for name in ("nbnorm", "minitrain"):
        module = importlib.import_module(name)
        if not Path(module.__file__ or "").is_relative_to(tree):
            raise ImportError(f"{name} came from {module.__file__}, not from {tree}")
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def set_up(case: str) -> Any:
    module, name, method, params = CASES[case]
    instance = getattr(importlib.import_module(f"benchmarks.{module}"), name)()
    instance.setup(*params)
    bound = getattr(instance, method)
    return lambda: bound(*params)


def calls_of(call: Any) -> int:
    """Calls that take about `RUN_SECONDS`; warms up by the way."""
    end = time.perf_counter() + 5 * RUN_SECONDS
    call()
    times = [measure(call, 1)]
    while time.perf_counter() < end:
        times.append(measure(call, 1))
    return max(1, min(MOST_CALLS, round(RUN_SECONDS / sorted(times)[len(times) // 5])))


def measure(call: Any, calls: int) -> float:
    """The 20th percentile of the times of some calls, in seconds."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times)[calls // 5]


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve())
