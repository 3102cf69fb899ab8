"""The summary of a job: a row for each question, a column for each kind of net that is compared."""

from __future__ import annotations

from minitrain.experiments.experiment import Job, Row
from minitrain.experiments.results import Results
from minitrain.terminal.live import is_live
from minitrain.terminal.tables import format_table

__all__ = ["print_summary", "summary_rows"]


def summary_rows(job: Job, results: Results) -> list[Row]:
    """Return the rows of all finished experiments."""
    return [row for experiment, result in job.finished(results.experiments) for row in experiment.rows(result)]


def print_summary(job: Job, results: Results) -> None:
    """Print the summary: as a rich table on a terminal, in plain columns elsewhere."""
    rows = summary_rows(job, results)
    if not is_live():
        print(format_table([job.text.headings, *rows], rules="columns"))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=job.text.summary_title, title_justify="left")
    for heading, color in zip(job.text.headings, job.text.colors, strict=True):
        table.add_column(heading, style=color)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
