"""Runs a job: its experiments one after the other, then figures and page."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba

from minitrain.experiments.data import Data, load_data
from minitrain.experiments.experiment import Job, Settings
from minitrain.experiments.page import render
from minitrain.experiments.results import Environment, Results
from minitrain.experiments.style import styled, to_png
from minitrain.experiments.summary import print_summary
from minitrain.experiments.training import OUTCOMES
from minitrain.experiments.watch import make_watch
from minitrain.files import write_bytes, write_text
from nbnorm.jit import serially
from nbnorm.jit.checks import mismatch

__all__ = ["draw_all", "run_job", "run_on"]


def run_on(
    job: Job,
    out: Path,
    *,
    seed: int,
    threads: int | None,
    quick: bool,
    data: str,
    data_folder: str | os.PathLike[str] | None,
    show_progress: bool,
) -> Results:
    """Run a job on a data set that is loaded by its name.

    Raises
    ------
    ValueError
        A bad seed, number of threads or name of a data set.
    KeyboardInterrupt, ImportError
        See `run_job`; scikit-learn is needed for the digits.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(mismatch("seed", "an integer of at least 0", repr(seed)))
    with _threads(threads):
        return run_job(job, out, load_data(data, data_folder, seed), job.settings(quick), seed, show_progress)


def run_job(job: Job, out: Path, data: Data, settings: Settings, seed: int, show_progress: bool) -> Results:
    """Run all experiments; write results.json after each, figures and report.html at the end or after Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; the report of the experiments that were finished has been written by then.
    ImportError
        matplotlib is not installed.
    """
    outcomes = dict(OUTCOMES) if job.text.explains_outcomes else {}
    results = Results(seed, settings, data.describe(), Environment.here(), outcomes=outcomes)
    draw_all(job, results)  # nothing yet, but a missing matplotlib shows now and not in three minutes
    began = time.perf_counter()
    total = sum(each.work() for each in settings.of.values())
    try:
        # The nets are small: two at a time, each on one thread, beat one at a time on two.
        with serially(), make_watch(total, show_progress) as watch:
            for experiment in job.experiments:
                start = time.perf_counter()
                watch.experiment(experiment.title)
                found = experiment.run(data, settings.of[experiment.name], seed, watch)
                results.experiments[experiment.name] = found
                results.seconds[experiment.name] = time.perf_counter() - start
                _write_results(out, results)
            watch.experiment("figures and report")
            results.finished = True
            _write_all(job, out, results, began)
    except KeyboardInterrupt:
        if results.experiments and not results.finished:
            _write_all(job, out, results, began)
            if show_progress:
                print(f"Stopped; what was finished is in {out}")
        raise
    if show_progress:
        print_summary(job, results)
        print(f"\nReport: {out / 'report.html'}   numbers: {out / 'results.json'}")
    return results


def draw_all(job: Job, results: Results) -> dict[str, bytes]:
    """Return the figures of all finished experiments as PNG files, by name.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    with styled():
        return {
            figure.name: to_png(figure.draw(result, results.data))
            for experiment, result in job.finished(results.experiments)
            for figure in experiment.figures
        }


def _write_all(job: Job, out: Path, results: Results, began: float) -> None:
    start = time.perf_counter()
    figures = draw_all(job, results)
    for name, content in figures.items():
        write_bytes(out / f"{name}.png", content)
    results.seconds["figures"] = time.perf_counter() - start
    results.seconds["total"] = time.perf_counter() - began
    _write_results(out, results)
    write_text(out / "report.html", render(job, results, figures))


def _write_results(out: Path, results: Results) -> None:
    write_text(out / "results.json", json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n")


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Run the kernels on so many threads within the block."""
    if threads is None:
        yield
        return
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise ValueError(mismatch("threads", f"an integer from 1 to {most}", repr(threads)))
    former = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(former)
