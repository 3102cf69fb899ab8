"""Batch norm against its peers and against a parallel copy, the limit that memory sets.

python -m benchmarks.peers batch-norm
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.batch_norm_calls import Calls, Data, backward_calls, forward_calls, fused_calls, torch, torch_fused
from benchmarks.timing import PERCENTILE, geometric_mean, markdown, settle

SHAPES = [
    (32, 64, 56, 56), (8, 64, 112, 112), (64, 64, 112, 112), (32, 256, 56, 56), (32, 256, 14, 14), (64, 512, 7, 7),
    (32, 2048, 7, 7), (64, 16, 32, 32), (128, 16, 32, 32), (128, 32, 16, 16), (128, 64, 8, 8), (128, 16, 28, 28),
    (2, 3, 224, 224), (16, 6, 28, 28), (1, 64, 56, 56), (256, 128), (64, 1000), (32, 100, 50), (4, 16, 16, 16, 16),
]  # fmt: skip
RUNS, SECONDS = 30, 4.0  # timed runs of each call for a shape, fewer when that takes longer
LARGE = 64 * 1024  # elements from which the targets for large shapes hold

NAMES = ("nbnorm", "nbnorm out=", "PyTorch", "channels_last", "compiled", "mkldnn", "JAX", "copy")
RATIOS = ("PyTorch / ours", "best / ours", "ours / copy")
FUSED = ("BN+ReLU forward and backward", "BN+Add+ReLU forward and backward", "inference with ReLU")


def measure(make: Callable[[Data, bool], Calls], compiled: bool) -> list[dict[str, Any]]:
    """Microseconds of everyone for all shapes, with ratios to PyTorch, to the best peer and to the copy."""
    rows = []
    for shape in SHAPES:
        times = _microseconds(make(Data(shape), compiled))
        times["copy"] = min(value for name, value in times.items() if name.startswith("copy"))
        ours = min(times["nbnorm"], times["nbnorm out="])
        peers = [times[name] for name in NAMES[2:-1] if name in times]
        rows.append({
            "shape": "x".join(map(str, shape)),
            "large": bool(np.prod(shape) >= LARGE),
            **times,
            "PyTorch / ours": times["PyTorch"] / ours if "PyTorch" in times else None,
            "best / ours": min(peers) / ours if peers else None,
            "ours / copy": ours / times["copy"],
        })  # fmt: skip
    return rows


def measure_fused(compiled: bool) -> list[dict[str, Any]]:
    """What follows a batch norm: ReLU, or the addition of a residual and ReLU."""
    rows = []
    for shape in SHAPES:
        data = Data(shape)
        times = _microseconds({**fused_calls(data), **(torch_fused(data) if torch is not None else {})})
        row: dict[str, Any] = {"shape": "x".join(map(str, shape)), "large": bool(np.prod(shape) >= LARGE), **times}
        for name in FUSED:
            row[f"PyTorch / ours, {name}"] = times[f"PyTorch {name}"] / times[name] if torch is not None else None
        rows.append(row)
    return rows


def _microseconds(calls: Calls) -> dict[str, float]:
    """20th percentile of each call, all in turn, each timed after `settle`."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + SECONDS
    for k in range(RUNS):
        for name, call in calls.items():
            settle(call)
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        if k >= 4 and time.perf_counter() > end:
            break
    return {name: float(np.percentile(values, PERCENTILE)) * 1e6 for name, values in times.items()}


def summary(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    lines = []
    for name in names:
        ratios = [row[name] for row in rows if row["large"] and row[name] is not None]
        if ratios:
            worst = (max if name.startswith("ours") else min)(ratios)
            mean = geometric_mean(ratios)
            lines.append(f"- {name}, shapes above 64k elements: geometric mean {mean:.2f}, worst {worst:.2f}")
    return "\n".join(lines)


def run(compiled: bool = True) -> dict[str, Any]:
    """Measure and print all tables."""
    results: dict[str, Any] = {}
    with torch.no_grad() if torch is not None else contextlib.nullcontext():
        for title, make in (("forward", forward_calls), ("backward", backward_calls)):
            results[f"batch norm, {title}"] = rows = measure(make, compiled)
            table = markdown(
                [f"batch norm, {title}, us", *NAMES, *RATIOS],
                [[row["shape"], *(row.get(name) for name in (*NAMES, *RATIOS))] for row in rows],
            )
            print(f"{table}\n\n{summary(rows, RATIOS)}\n", flush=True)
        results["batch norm, fused"] = rows = measure_fused(compiled)
    names = [name for case in FUSED for name in (case, f"PyTorch / ours, {case}")]
    table = markdown(["fused, us", *names], [[row["shape"], *(row.get(name) for name in names)] for row in rows])
    print(f"{table}\n\n{summary(rows, names[1::2])}\n", flush=True)
    return results
