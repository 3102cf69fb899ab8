"""The summary table: one row for each question, one column without and one with batch norm."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from minitrain.experiments.stability.figures.style import panel_title
from minitrain.experiments.stability.words.statements import (
    MILESTONE,
    accuracy_range,
    deepest_pairs,
    first_gradient_ratio,
    mean_drift,
    steps_to,
    times,
)

__all__ = ["HEADINGS", "print_table", "summary_rows"]

HEADINGS = ("measured", "without batch norm", "with batch norm")


def summary_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows for all finished experiments."""
    experiments = results["experiments"]
    rows: list[tuple[str, str, str]] = []
    if "depth" in experiments:
        rows += _depth_rows(results)
    if "learning_rate" in experiments:
        rows.append(_rate_row(experiments["learning_rate"]["summary"]))
    if "initialization" in experiments:
        rows += _scale_rows(experiments["initialization"])
    if "ioffe_szegedy" in experiments:
        rows += _sigmoid_rows(experiments["ioffe_szegedy"])
    return rows


def _depth_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    accuracies, gradients = [], []
    for pair in deepest_pairs(results):
        kind = f"{pair[0]['depth']} layers, {panel_title(pair[0]['kind'], pair[0]['activation'])}"
        accuracies.append((f"{kind}: test accuracy", *(accuracy_range(net["runs"]) for net in pair)))
        ratios = (times(first_gradient_ratio(net)) for net in pair)
        gradients.append((f"{kind}: gradient, first / last hidden layer", *ratios))
    return [*accuracies, *gradients]  # type: ignore[list-item]


def _rate_row(summary: dict[str, Any]) -> tuple[str, str, str]:
    def limit(side: str) -> str:
        value = summary[side]["largest_stable"]
        if value is None:
            return "none"
        return f"{value:g}" + (" or more" if summary[side]["at_the_end"] else "")

    ratio = "" if summary["ratio"] is None else f" ({summary['ratio']:.3g} times as large)"
    return "largest stable learning rate", limit("without"), limit("with") + ratio


def _scale_rows(experiment: dict[str, Any]) -> list[tuple[str, str, str]]:
    count = len(experiment["with"])
    parts = [experiment["summary"][side] for side in ("without", "with")]
    trained = [f"{len(part['trained'])} of {count}" for part in parts]
    ranges = [f"{100 * part['lowest_accuracy']:.3g} to {100 * part['highest_accuracy']:.3g} %" for part in parts]
    scales = [entry["value"] for entry in experiment["with"]]
    span = f"{min(scales):g} to {max(scales):g}"
    return [
        (f"first weights times {span}: scales that train", trained[0], trained[1]),
        (f"first weights times {span}: test accuracy", ranges[0], ranges[1]),
    ]


def _sigmoid_rows(experiment: dict[str, Any]) -> list[tuple[str, str, str]]:
    sides = [experiment[side]["runs"] for side in ("without", "with")]
    crossings = [steps_to(runs, MILESTONE) for runs in sides]
    reached = ["never" if steps is None else f"{steps:,}" for steps in crossings]
    drift = [f"{mean_drift(runs):.2g} widths" for runs in sides]
    return [
        (f"3 x 100 sigmoid: steps to {100 * MILESTONE:g} % of the test images", reached[0], reached[1]),
        ("3 x 100 sigmoid: drift of a typical unit's input", drift[0], drift[1]),
    ]


def print_table(results: dict[str, Any]) -> None:
    """Print the summary: as a rich table on a terminal, in plain columns elsewhere."""
    rows = summary_rows(results)
    if sys.stdout is not None and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.table import Table

        table = Table(title="What batch normalization does", title_justify="left")
        for heading, color in zip(HEADINGS, (None, "orange3", "dodger_blue1"), strict=True):
            table.add_column(heading, style=color)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(3)]
    lines = [list(HEADINGS), ["-" * width for width in widths], *map(list, rows)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
