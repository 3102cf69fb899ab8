"""Training steps beside programs that keep cores busy: ours as it is, on all threads, on one, and PyTorch.

python -m benchmarks.peers busy [--net mlp] [--peer PyTorch]

What counts here is the mean: a step that waits for a thread without a core takes several times as long as the others,
which a median does not show. Everyone trains for `BLOCK` seconds at a time, in turn: with shorter turns each would be
measured by what the others had done to the caches, the clock and the look at the load.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

from benchmarks.nets import NETS, chosen
from benchmarks.peers_training_step import step_of, torch_steps
from benchmarks.side_by_side import EAGER, wanted_peers
from benchmarks.timing import installed, markdown
from nbnorm.jit.sharing import sharing

__all__ = ["run"]

OURS, ALL, ONE = "minitrain", "all threads", "one thread"
USUAL = ("mlp", "digits-net", "resnet20-32", "resnet18-64")
BLOCK = 1.0  # seconds of training at a time: ten looks at the load
ROUNDS = 4
SPIN = "while True: pass"


def run(compiled: bool = True, nets: Sequence[str] | None = None, peers: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure every net beside no busy process, one for each core but one, and one for each; returns rows."""
    del compiled  # torch.compile waits for its threads as PyTorch does
    wanted, cores, rows = wanted_peers(peers), os.cpu_count() or 1, []
    for key, net in (chosen(nets) if nets else {name: NETS[name] for name in USUAL}).items():
        x, labels = net.data()
        step = step_of(net, x, labels)
        ways: dict[str, Callable[[], object]] = {OURS: step, ALL: step, ONE: step}
        if installed("torch") and wanted(EAGER[0]):
            ways[EAGER[0]] = torch_steps(net, x, labels, lambda peer: peer == EAGER[0], False)[EAGER[0]]
        for way in ways.values():
            way()  # compiles
        for busy in sorted({0, cores - 1, cores}):
            with spinning(busy):
                rows.append({"net": net.name, "busy": busy, **_times(ways)})
            print(f"{key}, {busy} busy processes", flush=True)
    print("\n" + _table(rows) + "\n")
    return {"busy": rows}


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """So many processes compute within the block."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        time.sleep(0.2 if count else 0.0)  # until they have started
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _times(ways: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by way: mean, median and worst."""
    threads, steps = numba.get_num_threads(), {name: list[float]() for name in ways}
    for turn in range(ROUNDS):
        for name in list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]:
            sharing.enable(name == OURS)
            numba.set_num_threads(1 if name == ONE else threads)
            steps[name] += _block(ways[name])
    numba.set_num_threads(threads)
    sharing.enable(False)
    return {
        name: {"mean": float(np.mean(each)), "median": float(np.median(each)), "worst": max(each)}
        for name, each in steps.items()
    }


def _block(step: Callable[[], object]) -> list[float]:
    times, end = [], time.perf_counter() + BLOCK
    while True:
        start = time.perf_counter()
        if start >= end and times:
            return times
        step()
        times.append((time.perf_counter() - start) * 1e3)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    names = [name for name in (OURS, ALL, ONE, EAGER[0]) if any(name in row for row in rows)]
    head = ["training step", "busy", *(f"{name}, mean ms" for name in names), "ours / one thread", "worst / median"]
    body = [
        [row["net"], row["busy"], *(row[name]["mean"] if name in row else None for name in names),
         row[OURS]["mean"] / row[ONE]["mean"], row[OURS]["worst"] / row[OURS]["median"]]
        for row in rows
    ]  # fmt: skip
    return markdown(head, body)
