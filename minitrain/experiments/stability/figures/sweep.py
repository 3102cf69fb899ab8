"""Accuracy and training loss against the values of a sweep."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sides import LOOKS, side_handles
from minitrain.experiments.stability.records.sides import SIDES
from minitrain.experiments.stability.records.sweep import Entries, SweepEntry, SweepRun
from minitrain.experiments.style import LEVEL, legend_below, line, new_figure, plain_logarithm

__all__ = ["draw_sweep"]


def draw_sweep(entries: Entries, data: DataSummary, label: str) -> tuple[Any, Any]:
    """Draw accuracy and training loss against the values; return the figure and its panels."""
    figure = new_figure(9.6, 4.3)
    panels = figure.subplots(1, 2)
    diverged_at = _loss_of_diverged(entries, data)
    for side, look in LOOKS.items():
        values = [entry.value for entry in entries[side]]
        accuracies = [[100 * run.test_accuracy for run in entry.runs] for entry in entries[side]]
        losses = [[_drawn_loss(run, diverged_at) for run in entry.runs] for entry in entries[side]]
        for panel, rows in zip(panels, (accuracies, losses), strict=True):
            panel.plot(values, [statistics.median_high(row) for row in rows], **look)
            for entry, row in zip(entries[side], rows, strict=True):
                _draw_runs(panel, entry, row, look)
    values = [entry.value for entry in entries.with_]
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.set_xticks([], minor=True)
        panel.set_xlabel(label)
    panels[0].set_ylim(-4, 103)
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].axhline(100 * data.chance_accuracy, **LEVEL)
    panels[1].axhline(data.chance_loss, **LEVEL)
    panels[1].set_yscale("log")
    plain_logarithm(panels[1].yaxis)
    panels[1].set_ylabel("final training loss (nats per image)")
    panels[1].axhspan(diverged_at / 1.35, diverged_at * 1.35, color="0.93", zorder=0)
    panels[1].annotate(
        "diverged", (0.01, diverged_at), xycoords=("axes fraction", "data"), va="center", fontsize=9, color="0.3"
    )
    cross = line(color="0.3", marker="x", linestyle="none", label="a run that diverged")
    legend_below(figure, [*side_handles(), cross, line(label="guessing", **LEVEL)])
    return figure, panels


def _draw_runs(panel: Any, entry: SweepEntry, row: Sequence[float], look: dict[str, Any]) -> None:
    """Draw each seed's run thinly, those that diverged as crosses."""
    for run, height in zip(entry.runs, row, strict=True):
        if run.outcome == "diverged":
            panel.plot(entry.value, height, color=look["color"], marker="x", markersize=8, markeredgewidth=1.8)
        else:
            panel.plot(entry.value, height, color=look["color"], marker=look["marker"], markersize=3.5, alpha=0.45)


def _drawn_loss(run: SweepRun, diverged_at: float) -> float:
    return diverged_at if run.outcome == "diverged" or run.final_training_loss is None else run.final_training_loss


def _loss_of_diverged(entries: Entries, data: DataSummary) -> float:
    """Return the height at which diverged runs are drawn: above all others."""
    runs = [run for side in SIDES for entry in entries[side] for run in entry.runs]
    losses = [run.final_training_loss for run in runs if run.outcome != "diverged"]
    return float(2.5 * max([*(loss for loss in losses if loss is not None), data.chance_loss]))
