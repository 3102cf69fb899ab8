"""Layer, RMS, group and instance norm against PyTorch's faster layout, on shapes of vision, text and audio.

python -m benchmarks.peers norms
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import norm_calls
from benchmarks.timing import geometric_mean, interleave, markdown

VISION = [
    (32, 64, 56, 56), (8, 64, 112, 112), (32, 256, 14, 14), (64, 512, 7, 7), (8, 256, 56, 56), (128, 32, 16, 16),
    (128, 64, 8, 8), (64, 16, 32, 32), (4, 128, 64, 64), (2, 64, 128, 128), (1, 64, 256, 256), (16, 96, 28, 28),
]  # fmt: skip
TEXT = [
    (64, 128, 768), (32, 128, 768), (16, 512, 768), (8, 512, 1024), (4, 1024, 1024), (1, 2048, 4096), (32, 128, 512),
    (64, 64, 256), (128, 64, 128), (16, 128, 384), (256, 32, 64), (2, 128, 768),
]  # fmt: skip
AUDIO = [  # frames of features
    (16, 500, 256), (8, 1000, 512), (32, 250, 144), (16, 400, 80), (4, 1500, 384), (4, 1500, 1280), (64, 100, 128),
    (8, 300, 512), (16, 1000, 40), (2, 3000, 256), (32, 200, 320), (1, 1500, 512),
]  # fmt: skip
WAVES = [  # channels of samples
    (8, 64, 16000), (16, 32, 8000), (4, 128, 4000), (32, 64, 1000), (16, 256, 500), (2, 16, 48000), (64, 32, 256),
    (8, 512, 125), (1, 64, 32000), (16, 128, 1024), (32, 96, 300), (4, 24, 10000),
]  # fmt: skip
TOKENS = [  # images as patches, and with the channels last
    (32, 197, 768), (64, 197, 384), (64, 197, 192), (8, 577, 1024), (16, 56, 56, 96), (16, 28, 28, 192),
    (32, 14, 14, 384), (64, 7, 7, 768), (8, 56, 56, 128), (4, 112, 112, 64), (64, 49, 512), (16, 256, 256),
]  # fmt: skip
SUITES: list[tuple[str, Callable[[tuple[int, ...]], norm_calls.Pair], list[tuple[int, ...]]]] = [
    ("layer norm", norm_calls.layer_norm, TOKENS + TEXT + AUDIO),
    ("RMS norm", norm_calls.rms_norm, TOKENS + TEXT + AUDIO),
    ("layer norm of channels", norm_calls.channel_norm, VISION),
    ("group norm", norm_calls.group_norm, VISION + WAVES),
    ("instance norm", norm_calls.instance_norm, VISION + WAVES),
]
NAMES = ("nbnorm", "nbnorm out=", "PyTorch", "channels_last")
HALF_PEERS = ("PyTorch", "channels_last")
FORMS = ("plain", "masked", "ghosts", "renorm")
RATIO = "best / ours"
LARGE = 64 * 1024  # elements from which the targets hold
RUNS, SECONDS = 20, 1.0  # timed runs of each call for a shape, fewer when that takes longer


def measure(make: Callable[[tuple[int, ...]], norm_calls.Pair], shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Microseconds of everyone for all shapes, forward and backward, with the ratio to the faster peer."""
    results: dict[str, Any] = {"forward": [], "backward": []}
    for shape in shapes:
        for rows, calls in zip(results.values(), make(shape), strict=True):
            times = {name: each.p20 * 1e6 for name, each in interleave(calls, runs=RUNS, seconds=SECONDS).items()}
            peers = [times[name] for name in NAMES[2:] if name in times]
            ours = min(times["nbnorm"], times["nbnorm out="])
            rows.append({
                "shape": "x".join(map(str, shape)), "large": bool(np.prod(shape) >= LARGE), **times,
                RATIO: min(peers) / ours if peers else None,
            })  # fmt: skip
    return results


def measure_forms(shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Microseconds of plain batch norm, and how many times that its forms take, forward and backward."""
    results: dict[str, Any] = {"forward": [], "backward": []}
    for shape in shapes:
        for rows, calls in zip(results.values(), norm_calls.batch_norm_forms(shape), strict=True):
            times = {name: each.p20 * 1e6 for name, each in interleave(calls, runs=RUNS, seconds=SECONDS).items()}
            plain = times.pop("plain")
            rows.append({"shape": "x".join(map(str, shape)), "plain": plain,
                         **{name: each / plain for name, each in times.items()}})  # fmt: skip
    return results


def run_forms() -> dict[str, Any]:
    """Measure and print the tables of the forms."""
    results: dict[str, Any] = {}
    for direction, rows in measure_forms(VISION + WAVES).items():
        results[f"batch norm's forms, {direction}"] = rows
        print(markdown([f"batch norm, {direction}: plain in us, others in times of it", *FORMS],
                       [[row["shape"], *(row[name] for name in FORMS)] for row in rows]))  # fmt: skip
        means = []
        for name in FORMS[1:]:
            ratios = [row[name] for row in rows]
            means.append(f"{name} {geometric_mean(ratios):.2f} (worst {max(ratios):.2f})")
        print(f"\n- geometric means: {', '.join(means)}\n", flush=True)
    return results


def run_halves() -> dict[str, Any]:
    """Measure and print batch norm of bfloat16 arrays beside float32 and PyTorch's."""
    results: dict[str, Any] = {"forward": [], "backward": []}
    for shape in VISION:
        for rows, calls in zip(results.values(), norm_calls.half_batch_norm(shape), strict=True):
            times = {name: each.p20 * 1e6 for name, each in interleave(calls, runs=RUNS, seconds=SECONDS).items()}
            peers = [times[name] for name in HALF_PEERS if name in times]
            rows.append({
                "shape": "x".join(map(str, shape)), **times, "float32 / ours": times["float32"] / times["bfloat16"],
                RATIO: min(peers) / times["bfloat16"] if peers else None,
            })  # fmt: skip
    names = ("float32", "bfloat16", *HALF_PEERS, "float32 / ours", RATIO)
    for direction, rows in results.items():
        body = [[row["shape"], *(row.get(name) for name in names)] for row in rows]
        print(markdown([f"batch norm of bfloat16, {direction}, us", *names], body))
        for name in names[-2:]:
            ratios = [row[name] for row in rows if row[name] is not None]
            if ratios:
                print(f"\n- {name}: geometric mean {geometric_mean(ratios):.2f}, worst {min(ratios):.2f}")
        print(flush=True)
    return {f"bfloat16, {direction}": rows for direction, rows in results.items()}


def run(compiled: bool = True, suites: Sequence[str] = ()) -> dict[str, Any]:
    """Measure and print all tables, or those of some suites."""
    results: dict[str, Any] = {}
    for name, make, shapes in SUITES:
        if suites and name not in suites:
            continue
        for direction, rows in measure(make, shapes).items():
            results[f"{name}, {direction}"] = rows
            body = [[row["shape"], *(row.get(column) for column in (*NAMES, RATIO))] for row in rows]
            print(markdown([f"{name}, {direction}, us", *NAMES, RATIO], body))
            ratios = [row[RATIO] for row in rows if row["large"] and row[RATIO] is not None]
            if ratios:
                print(f"\n- {RATIO}, from 64k elements: geometric mean {geometric_mean(ratios):.2f}, "
                      f"worst {min(ratios):.2f}")  # fmt: skip
            print(flush=True)
    if not suites or "forms" in suites:
        results |= run_forms()
    if not suites or "halves" in suites:
        results |= run_halves()
    return results
