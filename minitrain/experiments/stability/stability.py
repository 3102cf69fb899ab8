"""The demonstration behind `minitrain stability`: what batch normalization does for the training of deep nets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from minitrain.experiments.experiment import Job
from minitrain.experiments.run import run_on
from minitrain.experiments.stability.studies import EXPERIMENTS
from minitrain.experiments.stability.words.page import PAGE

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
    return run_on(
        STABILITY,
        Path(out),
        seed=seed,
        threads=threads,
        quick=quick,
        data=data,
        data_folder=data_folder,
        show_progress=show_progress,
    ).to_json()
