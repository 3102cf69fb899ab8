"""The comparisons behind `minitrain norms`: which norm, and which form of batch norm, is good for what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from minitrain.experiments.experiment import Job
from minitrain.experiments.norms.page import PAGE
from minitrain.experiments.norms.studies import EXPERIMENTS
from minitrain.experiments.run import run_on

__all__ = ["NORMS", "run"]

NORMS = Job("norms", PAGE, EXPERIMENTS)


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
    """Train nets with all norms and forms of batch norm; write results.json, figures and report.html.

    Parameters, results and errors are those of `minitrain.experiments.stability.run`.

    Examples
    --------
    >>> results = run("report", quick=True)  # doctest: +SKIP
    >>> results["experiments"]["batch_size"]["lines"][0]["name"]  # doctest: +SKIP
    'batch norm'
    """
    return run_on(
        NORMS,
        Path(out),
        seed=seed,
        threads=threads,
        quick=quick,
        data=data,
        data_folder=data_folder,
        show_progress=show_progress,
    ).to_json()
