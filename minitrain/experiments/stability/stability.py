"""The demonstration behind `minitrain stability`: what batch normalization does for the training of deep nets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba

from minitrain.experiments.data import load_data
from minitrain.experiments.experiment import Job
from minitrain.experiments.run import run_job
from minitrain.experiments.stability.studies import EXPERIMENTS
from minitrain.experiments.stability.words.page import PAGE
from nbnorm.jit.checks import mismatch

__all__ = ["STABILITY", "run"]

STABILITY = Job("stability", PAGE, EXPERIMENTS)


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
        raise ValueError(mismatch("seed", "an integer of at least 0", repr(seed)))
    with _threads(threads):
        loaded = load_data(data, data_folder, seed)
        return run_job(STABILITY, Path(out), loaded, STABILITY.settings(quick), seed, show_progress).to_json()


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
