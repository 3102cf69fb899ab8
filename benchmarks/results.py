"""The results that asv saved, as trends over the commits, and the regressions in them by asv's own algorithm."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

THRESHOLD = 0.10  # relative; smaller steps are not reported
HIGHER_IS_BETTER = {"GB/s"}

Series = list[float]  # one value for each commit; nan where there is none


@dataclass(frozen=True)
class Regression:
    """A step of one series for the worse that was not made good."""

    parameters: str
    position: int  # of the first commit with it
    before: float
    after: float

    @property
    def factor(self) -> float:
        return self.after / self.before if self.before else math.inf


@dataclass(frozen=True)
class Trend:
    """One benchmark on one machine."""

    name: str
    unit: str
    series: dict[str, Series]  # by parameters
    regressions: list[Regression]

    @property
    def file_name(self) -> str:
        return _as_file_name(self.name) + ".svg"


@dataclass(frozen=True)
class Machine:
    """All results of one machine and environment, commits in order."""

    name: str
    about: dict[str, str]
    commits: list[tuple[str, datetime]]
    trends: list[Trend]

    @property
    def folder_name(self) -> str:
        return _as_file_name(self.name)


def _as_file_name(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-")


def read(results: Path) -> list[Machine]:
    """Read the results folder of asv."""
    from asv.results import iter_results_for_machine

    benchmarks = json.loads((results / "benchmarks.json").read_text())
    machines = []
    for path in sorted(results.glob("*/machine.json")):
        about = json.loads(path.read_text())
        by_environment: dict[str, list[Any]] = {}
        for run in iter_results_for_machine(str(results), path.parent.name):
            by_environment.setdefault(run.env_name, []).append(run)
        for environment, runs in sorted(by_environment.items()):
            machines.append(_machine(f"{path.parent.name}, {environment}", about, runs, benchmarks))
    return machines


def _machine(name: str, about: dict[str, str], runs: list[Any], benchmarks: dict[str, Any]) -> Machine:
    dates = {run.commit_hash: run.date for run in runs}
    order = _commit_order()
    hashes = sorted(dates, key=lambda each: (order.get(each, -1), dates[each]))
    trends = []
    for benchmark in benchmarks.values():
        if isinstance(benchmark, dict):
            series = _series(benchmark, runs, hashes)
            if series:
                regressions = list(_regressions(series, benchmark["unit"]))
                trends.append(Trend(benchmark["name"], benchmark["unit"], series, regressions))
    commits = [(each, datetime.fromtimestamp(dates[each] / 1000, UTC)) for each in hashes]
    return Machine(name, about, commits, sorted(trends, key=lambda trend: trend.name))


def _commit_order() -> dict[str, int]:
    """Position of every commit in the history; dates alone do not order commits of the same second."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-list", "--reverse", "--topo-order", "--all"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return {commit: position for position, commit in enumerate(run.stdout.split())}


def _series(benchmark: dict[str, Any], runs: list[Any], hashes: list[str]) -> dict[str, Series]:
    """Values of every combination of parameters, one for each commit."""
    name = benchmark["name"]
    labels = [", ".join(value.strip("'") for value in values) for values in itertools.product(*benchmark["params"])]
    series: dict[str, Series] = {label: [math.nan] * len(hashes) for label in labels}
    for run in runs:
        if name not in run.get_result_keys({name: benchmark}):  # another version of the benchmark counts as none
            continue
        values = run.get_result_value(name, benchmark["params"])
        for label, value in zip(labels, values, strict=True):
            if value is not None and not math.isnan(value):
                series[label][hashes.index(run.commit_hash)] = value
    return {label: values for label, values in series.items() if not all(map(math.isnan, values))}


def _regressions(series: dict[str, Series], unit: str) -> Iterator[Regression]:
    from asv.step_detect import detect_regressions, detect_steps

    for label, values in series.items():
        # What is better the higher it is goes in upside down.
        costs = [1 / value if unit in HIGHER_IS_BETTER and value else value for value in values]
        *_, positions = detect_regressions(detect_steps(costs), THRESHOLD)
        for _, position, before, after in positions or ():
            if after <= before * (1 + THRESHOLD):  # a single bad value between good ones
                continue
            if unit in HIGHER_IS_BETTER:
                before, after = 1 / before, 1 / after
            yield Regression(label, position, before, after)
