"""Figures of the learning rates and of the scales of the first weights."""

from __future__ import annotations

import statistics
from typing import Any

from minitrain.experiments.stability.figures.style import LEVEL, SIDES, legend_below, new_figure, plain_logarithm
from minitrain.optional import require

__all__ = ["draw_rates", "draw_scales"]


def draw_rates(results: dict[str, Any]) -> Any:
    """Draw accuracy and training loss against the learning rate, with the largest stable rates."""
    experiment = results["experiments"]["learning_rate"]
    figure, panels = _draw(results, experiment, "learning rate")
    summary = experiment["summary"]
    limits = {side: summary[side]["largest_stable"] for side in SIDES}
    for side, style in SIDES.items():
        if limits[side] is None:
            continue
        left = (
            side == "without"
            if limits["with"] is None or limits["without"] is None
            else ((limits[side], side == "with") == min((limits["without"], False), (limits["with"], True)))
        )
        panels[0].annotate(
            f"largest stable:\n{limits[side]:g}" + (" or more" if summary[side]["at_the_end"] else ""),
            xy=(limits[side], 100.5),
            xytext=(-6 if left else 6, 16),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom",
            color=style["color"],
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "->", "color": style["color"]},
        )
    return figure


def draw_scales(results: dict[str, Any]) -> Any:
    """Draw accuracy and training loss against the scale of the first weights."""
    figure, _ = _draw(results, results["experiments"]["initialization"], "factor on the first weights")
    return figure


def _draw(results: dict[str, Any], experiment: dict[str, Any], label: str) -> tuple[Any, Any]:
    figure = new_figure(9.6, 4.3)
    panels = figure.subplots(1, 2)
    diverged_at = _loss_of_diverged(results, experiment)
    for side, style in SIDES.items():
        entries = experiment[side]
        values = [entry["value"] for entry in entries]
        accuracies = [[100 * run["test_accuracy"] for run in entry["runs"]] for entry in entries]
        losses = [[_drawn_loss(run, diverged_at) for run in entry["runs"]] for entry in entries]
        for panel, rows in zip(panels, (accuracies, losses), strict=True):
            panel.plot(values, [statistics.median_high(row) for row in rows], **style)
            for number, entry in enumerate(entries):
                _draw_runs(panel, entry, rows[number], style)
    values = [entry["value"] for entry in experiment["with"]]
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.set_xticks([], minor=True)
        panel.set_xlabel(label)
    panels[0].set_ylim(-4, 103)
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].axhline(100 * results["data"]["chance_accuracy"], **LEVEL)
    panels[1].axhline(results["data"]["chance_loss"], **LEVEL)
    panels[1].set_yscale("log")
    plain_logarithm(panels[1].yaxis)
    panels[1].set_ylabel("final training loss (nats per image)")
    panels[1].axhspan(diverged_at / 1.35, diverged_at * 1.35, color="0.93", zorder=0)
    panels[1].annotate(
        "diverged", (0.01, diverged_at), xycoords=("axes fraction", "data"), va="center", fontsize=9, color="0.3"
    )
    line = require("matplotlib.lines", "drawing the figures").Line2D
    handles = [line([], [], **style) for style in SIDES.values()]
    handles.append(line([], [], color="0.3", marker="x", linestyle="none", label="a run that diverged"))
    legend_below(figure, [*handles, line([], [], label="guessing", **LEVEL)])
    return figure, panels


def _draw_runs(panel: Any, entry: dict[str, Any], row: list[float], style: dict[str, Any]) -> None:
    """Draw each seed's run thinly, those that diverged as crosses."""
    for run, height in zip(entry["runs"], row, strict=True):
        if run["outcome"] == "diverged":
            panel.plot(entry["value"], height, color=style["color"], marker="x", markersize=8, markeredgewidth=1.8)
        else:
            panel.plot(entry["value"], height, color=style["color"], marker=style["marker"], markersize=3.5, alpha=0.45)


def _drawn_loss(run: dict[str, Any], diverged_at: float) -> float:
    return diverged_at if run["outcome"] == "diverged" else float(run["final_training_loss"])


def _loss_of_diverged(results: dict[str, Any], experiment: dict[str, Any]) -> float:
    """Return the height at which diverged runs are drawn: above all others."""
    losses = [
        run["final_training_loss"]
        for side in SIDES
        for entry in experiment[side]
        for run in entry["runs"]
        if run["outcome"] != "diverged"
    ]
    return float(2.5 * max([*losses, results["data"]["chance_loss"]]))
