"""Judge a change: is this checkout slower than another commit, beyond the noise of this machine?

python -m benchmarks.gate main                 # the checkout as it is, against main
python -m benchmarks.gate HEAD~3 HEAD          # two commits
python -m benchmarks.gate main --only conv     # cases whose names match a regular expression

Both trees run in turn (A B B A ...) in processes of their own, on the benchmarks of this checkout. Several pairs of
processes do so one after the other, because where a process happens to get its memory decides several percent. Of each
run the 20th percentile of its calls counts, which other programs on the machine hardly move. Cases whose ratio
new / old is above 1.05 are measured again in fresh processes, three to eight times as many, until it is clear: slower
is what is above 1.10 with a 99 % confidence interval above 1.05, and not slower is what has an interval below 1.10.
Exit status: 0 nothing is slower for sure, 1 something is, 2 not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .gate_worker import CASES, Worker, WorkerError

ROOT = Path(__file__).resolve().parents[1]
RATIO = 1.10  # what counts as slower
SURELY = 1.05  # and where its confidence interval must begin
CONFIDENCE = 0.99
LEAST_BATCHES, MOST_BATCHES = 3, 8  # of pairs of processes, for what may be slower


@dataclass
class Comparison:
    """Times of one case: for each pair of processes the times of old and new, one for each run."""

    case: str
    pairs: list[tuple[list[float], list[float]]] = field(default_factory=list)

    def log_ratios(self) -> list[float]:
        """One number for each pair of processes."""
        return [math.log(low(new) / low(old)) for old, new in self.pairs]

    @property
    def ratio(self) -> float:
        """New / old."""
        return math.exp(float(np.median(self.log_ratios())))

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Old, new."""
        old, new = (1e3 * float(np.median([low(pair[side]) for pair in self.pairs])) for side in (0, 1))
        return old, new

    def interval(self, draws: int = 2000) -> tuple[float, float]:
        """Confidence interval of the ratio: pairs of processes are drawn with replacement, then runs within them."""
        rng = np.random.default_rng(0)
        within = np.empty((draws, len(self.pairs)))  # each pair's ratio, from runs drawn anew
        for column, pair in enumerate(self.pairs):
            old, new = np.array(pair)
            picked = rng.integers(0, len(old), (draws, len(old)))
            within[:, column] = low(new[picked]) / low(old[picked])
        ratios = np.take_along_axis(within, rng.integers(0, len(self.pairs), within.shape), axis=1)
        outside = (1 - CONFIDENCE) / 2
        lower, upper = np.quantile(np.median(ratios, axis=1), (outside, 1 - outside))
        return float(lower), float(upper)

    def verdict(self) -> str:
        """Whether new is slower beyond noise: "SLOWER", "no" or "unclear"."""
        lower, upper = self.interval()
        if self.ratio > RATIO and lower > SURELY:
            return "SLOWER"
        return "no" if upper < RATIO else "unclear"

    def __str__(self) -> str:
        (old, new), (lower, upper) = self.milliseconds, self.interval()
        return f"{self.case:<44} {old:9.4f} {new:9.4f} {self.ratio:7.3f}  {lower:.3f} to {upper:.3f}"


HEADER = f"{'case':<44} {'old ms':>9} {'new ms':>9} {'ratio':>7}  99 % interval"


def low(times: Any) -> Any:
    """The 20th percentile along the last axis."""
    return np.quantile(times, 0.2, axis=-1)


def compare(trees: tuple[Path, Path], cases: Sequence[str], pairs: int, rounds: int, cache: Path) -> list[Comparison]:
    """Measure `cases` in both trees, in `pairs` pairs of processes, `rounds` runs of each case in each process."""
    comparisons = [Comparison(case) for case in cases]
    for number in range(pairs):
        order = (0, 1) if number % 2 == 0 else (1, 0)  # who starts first changes too
        print(f"pair {number + 1} of {pairs} ...", end="\r", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            started = {side: stack.enter_context(Worker(trees[side], cache)) for side in order}
            for comparison in comparisons:
                times = alternate((started[0], started[1]), comparison.case, rounds)
                if times is not None:
                    comparison.pairs.append(times)
    return [comparison for comparison in comparisons if comparison.pairs]


def alternate(workers: tuple[Worker, Worker], case: str, rounds: int) -> tuple[list[float], list[float]] | None:
    """Let two processes run a case in turn, A B B A, and return their times; None where the old tree cannot run it."""
    prepared = [worker.prepare(case) for worker in workers]
    if not prepared[1]:
        raise WorkerError(f"{case}: does not run in the new tree")
    if not prepared[0]:
        print(f"{case:<44} does not run in the old tree", flush=True)
        return None
    calls = max(prepared)  # as many in both, so that both see the same clocks
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            times[side].append(workers[side].run(calls))
    return times


def judge(trees: tuple[Path, Path], cases: Sequence[str], pairs: int, rounds: int, cache: Path) -> list[Comparison]:
    """Print all cases; measure those that may be slower again and at length, and return these second results."""
    print(HEADER, flush=True)
    suspects = []
    for comparison in compare(trees, cases, pairs, rounds, cache):
        print(comparison, flush=True)
        if comparison.ratio > SURELY:
            suspects.append(comparison.case)
    if not suspects:
        return []
    print(f"\nThese again, at length:\n{HEADER}", flush=True)
    again = {case: Comparison(case) for case in suspects}
    unclear = suspects
    for batch in range(1, MOST_BATCHES + 1):
        for comparison in compare(trees, unclear, pairs, rounds, cache):
            again[comparison.case].pairs.extend(comparison.pairs)
        if batch >= LEAST_BATCHES:
            unclear = [case for case in unclear if again[case].verdict() == "unclear"]
        if not unclear:
            break
    for comparison in again.values():
        print(f"{comparison}  {comparison.verdict()}", flush=True)
    return list(again.values())


# ----------------------------------------------------------------------------------------------------------- the trees


def git(*arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)
    return run.stdout.decode().strip()


def tree_of(commit: str | None, folder: Path) -> Path:
    """Unpack the packages of a commit into `folder`; without a commit, the tree is this checkout with its changes."""
    if commit is None:
        return ROOT
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "nbnorm", "minitrain"], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def describe(commit: str | None) -> str:
    if commit is not None:
        return git("log", "-1", "--format=%h %s", commit)
    changed = git("status", "--porcelain", "--untracked-files=no", "nbnorm", "minitrain")
    return f"this checkout, {git('log', '-1', '--format=%h %s')}{' with changes' if changed else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gate; returns its exit status."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.gate", None, summary, details, formatter_class=formatter)
    parser.add_argument("base", help="commit to hold the new one against")
    parser.add_argument("new", nargs="?", help="commit to judge (default: this checkout as it is)")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases to run")
    parser.add_argument("--list", action="store_true", help="print the cases and exit")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="pairs of processes (default: 3)")
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="runs in each process (default: 12)")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if re.search(options.only, case)]
    if options.list or not cases:
        print("\n".join(CASES if options.list else [f"--only: no case matches {options.only!r}"]))
        return 0 if options.list else 2
    started = time.perf_counter()
    try:
        results = run(options, cases)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}", file=sys.stderr)
        return 2
    except WorkerError as error:
        print(error, file=sys.stderr)
        return 2
    return report(results, time.perf_counter() - started)


def report(results: Sequence[Comparison], seconds: float) -> int:
    """Print the outcome; returns the exit status."""
    names: dict[str, list[str]] = {"SLOWER": [], "unclear": [], "no": []}
    for result in results:
        names[result.verdict()].append(f"{result.case} ({result.ratio:.2f}x)")
    print()
    if names["unclear"]:
        print(f"Unclear, the machine is too busy: {', '.join(names['unclear'])}")
    print(f"SLOWER: {', '.join(names['SLOWER'])}" if names["SLOWER"] else "Nothing is slower for sure.", end=" ")
    print(f"({seconds:.0f} s)")
    return 1 if names["SLOWER"] else 0


def run(options: argparse.Namespace, cases: Sequence[str]) -> list[Comparison]:
    """Say what is compared, and compare it in a temporary folder."""
    print(f"old: {describe(options.base)}\nnew: {describe(options.new)}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.pairs} pairs of processes\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="gate") as name:
        folder = Path(name)
        trees = tree_of(options.base, folder / "old"), tree_of(options.new, folder / "new")
        return judge(trees, cases, options.pairs, options.rounds, folder / "cache")


if __name__ == "__main__":
    sys.exit(main())
