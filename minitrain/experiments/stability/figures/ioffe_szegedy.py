"""Figure 1 of Ioffe & Szegedy 2015, drawn from our runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitrain.experiments.stability.figures.style import LEVEL, SIDES, legend_below, new_figure
from minitrain.optional import require

__all__ = ["draw_sigmoid"]

LINES: dict[str, dict[str, Any]] = {
    "85th": {"color": "0.3", "linewidth": 1.1, "linestyle": (0, (4, 2))},
    "50th": {"color": "0.3", "linewidth": 2.0, "linestyle": "-"},
    "15th": {"color": "0.3", "linewidth": 1.3, "linestyle": (0, (1, 1.5))},
}


def draw_sigmoid(results: dict[str, Any]) -> Any:
    """Draw accuracy over training, and three percentiles of the input of one typical unit without and with."""
    experiment = results["experiments"]["ioffe_szegedy"]
    figure = new_figure(11.4, 3.9)
    panels = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _draw_accuracy(panels[0], results, experiment)
    panels[2].sharey(panels[1])
    for panel, side in zip(panels[1:], SIDES, strict=True):
        run = experiment[side]["runs"][0]
        steps = run["measured_at"]
        color = SIDES[side]["color"]
        low, middle, high = (np.array(run["percentiles"][name], dtype=np.float64) for name in ("15", "50", "85"))
        panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        for values, look in zip((high, middle, low), LINES.values(), strict=True):
            panel.plot(steps, values, **{**look, "color": color})
        panel.set_title(f"input of a typical unit,\n{SIDES[side]['label']}")
        panel.set_xlabel("training steps")
        panel.set_xlim(0, steps[-1])
    panels[1].set_ylabel("input of the last hidden sigmoid")
    line = require("matplotlib.lines", "drawing the figures").Line2D
    handles = [line([], [], **{**style, "marker": None}) for style in SIDES.values()]
    handles += [line([], [], label=f"{name} percentile", **look) for name, look in LINES.items()]
    legend_below(figure, [*handles, line([], [], label="guessing", **LEVEL)], columns=6)
    return figure


def _draw_accuracy(panel: Any, results: dict[str, Any], experiment: dict[str, Any]) -> None:
    for side, style in SIDES.items():
        curves = [run for run in experiment[side]["runs"] if run["steps"] == experiment[side]["runs"][0]["steps"]]
        steps = curves[0]["measured_at"]
        accuracy = 100 * np.array([run["accuracy"] for run in curves], dtype=np.float64)
        panel.fill_between(steps, accuracy.min(0), accuracy.max(0), color=style["color"], alpha=0.18, linewidth=0)
        panel.plot(steps, accuracy.mean(0), **{**style, "marker": None})
    panel.axhline(100 * results["data"]["chance_accuracy"], **LEVEL)
    panel.set_ylim(0, 103)
    panel.set_title("test accuracy\nmean and range of the seeds")
    panel.set_xlabel("training steps")
    panel.set_ylabel("test accuracy (%)")
