"""The demonstration behind `minitrain stability`: what batch normalization does for the training of deep nets."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np

from minitrain.experiments.data import Data, load_data
from minitrain.experiments.stability.figures.style import draw_all
from minitrain.experiments.stability.page import write_report
from minitrain.experiments.stability.studies import depth, initialization, ioffe_szegedy, learning_rate
from minitrain.experiments.stability.studies.depth import DepthSettings, NetSettings
from minitrain.experiments.stability.studies.initialization import ScaleSettings
from minitrain.experiments.stability.studies.ioffe_szegedy import SigmoidSettings
from minitrain.experiments.stability.studies.learning_rate import RateSettings
from minitrain.experiments.stability.words.summary import print_table
from minitrain.experiments.training import OUTCOMES
from minitrain.experiments.watch import make_watch
from minitrain.files import write_bytes, write_text
from nbnorm.jit import serially

__all__ = ["FULL", "QUICK", "Settings", "run", "run_settings"]


@dataclass(frozen=True)
class Settings:
    """The settings of all experiments."""

    name: str = "full"
    depth: DepthSettings = field(default_factory=DepthSettings)
    learning_rate: RateSettings = field(default_factory=RateSettings)
    initialization: ScaleSettings = field(default_factory=ScaleSettings)
    ioffe_szegedy: SigmoidSettings = field(default_factory=SigmoidSettings)


FULL = Settings()
QUICK = Settings(
    name="quick",
    depth=DepthSettings(
        nets=(
            NetSettings("dense", width=64, batch_size=64, learning_rates=(0.03,), seeds=1),
            NetSettings("conv", width=8, batch_size=32, learning_rates=(0.03,), seeds=1),
        ),
        depths=(5, 20, 40),
        steps=200,
    ),
    learning_rate=RateSettings(seeds=1, steps=200),
    initialization=ScaleSettings(seeds=1, steps=200),
    ioffe_szegedy=SigmoidSettings(seeds=1, steps=1000),
)
EXPERIMENTS: dict[str, Any] = {
    "depth": depth,
    "learning_rate": learning_rate,
    "initialization": initialization,
    "ioffe_szegedy": ioffe_szegedy,
}


def run(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    threads: int | None = None,
    quick: bool = False,
    data: str = "digits",
    data_folder: str | os.PathLike[str] | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Train nets with and without batch norm; write results.json, figures and report.html.

    Parameters
    ----------
    out : path
        Folder; made where it is missing. Files of an earlier run are replaced, each as a whole.
    seed : int
        Of the split, the first weights and the order of the images. Equal seeds give equal numbers, times aside, for
        any number of threads.
    threads : int, optional
        Threads of the kernels; all that Numba has by default.
    quick : bool
        One seed and fewer steps.
    data : "digits" or "mnist"
    data_folder : path, optional
        Where the files of mnist are.
    show_progress : bool
        Whether to show a live bar (lines, where the output is no terminal) and, at the end, the summary table.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; the report of the experiments that were finished has been written by then.
    ImportError
        matplotlib, or scikit-learn for the digits, is not installed.
    ValueError
        A bad seed, number of threads or name of a data set.

    Examples
    --------
    >>> results = run("report", quick=True)  # doctest: +SKIP
    >>> results["experiments"]["learning_rate"]["summary"]["ratio"]  # doctest: +SKIP
    30.0
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
    with _threads(threads):
        loaded = load_data(data, data_folder, seed)
        return run_settings(Path(out), loaded, QUICK if quick else FULL, seed, show_progress)


def run_settings(out: Path, data: Data, settings: Settings, seed: int, show_progress: bool) -> dict[str, Any]:
    """Run all experiments with these settings on data that were loaded before; see `run`."""
    results: dict[str, Any] = {
        "format": 1,
        "seed": seed,
        "finished": False,
        "settings": asdict(settings),
        "data": data.describe(),
        "outcomes": OUTCOMES,
        "environment": _environment(),
        "seconds": {},
        "experiments": {},
    }
    draw_all(results)  # nothing yet, but a missing matplotlib shows now and not in three minutes
    began = time.perf_counter()
    total = sum(module.work(getattr(settings, name)) for name, module in EXPERIMENTS.items())
    try:
        # The nets are small: two at a time, each on one thread, beat one at a time on two.
        with serially(), make_watch(total, show_progress) as watch:
            for name, module in EXPERIMENTS.items():
                start = time.perf_counter()
                watch.experiment(module.NAME)
                results["experiments"][name] = module.run(data, getattr(settings, name), seed, watch)
                results["seconds"][name] = time.perf_counter() - start
                _write_results(out, results)
            watch.experiment("figures and report")
            results["finished"] = True
            _write_all(out, results, began)
    except KeyboardInterrupt:
        if results["experiments"] and not results["finished"]:
            _write_all(out, results, began)
            if show_progress:
                print(f"Stopped; what was finished is in {out}")
        raise
    if show_progress:
        print_table(results)
        print(f"\nReport: {out / 'report.html'}   numbers: {out / 'results.json'}")
    return results


def _write_all(out: Path, results: dict[str, Any], began: float) -> None:
    start = time.perf_counter()
    figures = draw_all(results)
    for name, content in figures.items():
        write_bytes(out / f"{name}.png", content)
    results["seconds"]["figures"] = time.perf_counter() - start
    results["seconds"]["total"] = time.perf_counter() - began
    _write_results(out, results)
    write_report(out / "report.html", results, figures)


def _write_results(out: Path, results: dict[str, Any]) -> None:
    write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")


def _environment() -> dict[str, Any]:
    from minitrain import __version__

    return {
        "minitrain": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": numba.get_num_threads(),
    }


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Run the kernels on so many threads within the block."""
    if threads is None:
        yield
        return
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise ValueError(f"threads: expected an integer from 1 to {most}, got {threads!r}")
    former = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(former)
