"""Figure 1 of Ioffe & Szegedy 2015, drawn from our runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sides import LOOKS, side_handles
from minitrain.experiments.stability.records.ioffe_szegedy import SigmoidResult
from minitrain.experiments.stability.records.sides import SIDES
from minitrain.experiments.style import LEVEL, legend_below, line, new_figure

__all__ = ["draw_sigmoid"]

LINES: dict[str, dict[str, Any]] = {
    "85th": {"color": "0.3", "linewidth": 1.1, "linestyle": (0, (4, 2))},
    "50th": {"color": "0.3", "linewidth": 2.0, "linestyle": "-"},
    "15th": {"color": "0.3", "linewidth": 1.3, "linestyle": (0, (1, 1.5))},
}


def draw_sigmoid(result: SigmoidResult, data: DataSummary) -> Any:
    """Draw accuracy over training, and three percentiles of the input of one typical unit without and with."""
    figure = new_figure(11.4, 3.9)
    panels = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _draw_accuracy(panels[0], result, data)
    panels[2].sharey(panels[1])
    for panel, side in zip(panels[1:], SIDES, strict=True):
        run = result[side].runs[0]
        steps = run.measured_at
        color = LOOKS[side]["color"]
        low, middle, high = (np.array(run.percentiles[name], dtype=np.float64) for name in ("15", "50", "85"))
        panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        for values, look in zip((high, middle, low), LINES.values(), strict=True):
            panel.plot(steps, values, **{**look, "color": color})
        panel.set_title(f"input of a typical unit,\n{LOOKS[side]['label']}")
        panel.set_xlabel("training steps")
        panel.set_xlim(0, steps[-1])
    panels[1].set_ylabel("input of the last hidden sigmoid")
    percentiles = [line(label=f"{name} percentile", **look) for name, look in LINES.items()]
    legend_below(figure, [*side_handles(marks=False), *percentiles, line(label="guessing", **LEVEL)], columns=6)
    return figure


def _draw_accuracy(panel: Any, result: SigmoidResult, data: DataSummary) -> None:
    for side, look in LOOKS.items():
        runs = result[side].runs
        curves = [run for run in runs if run.steps == runs[0].steps]
        steps = curves[0].measured_at
        accuracy = 100 * np.array([run.accuracy for run in curves], dtype=np.float64)
        panel.fill_between(steps, accuracy.min(0), accuracy.max(0), color=look["color"], alpha=0.18, linewidth=0)
        panel.plot(steps, accuracy.mean(0), **{**look, "marker": None})
    panel.axhline(100 * data.chance_accuracy, **LEVEL)
    panel.set_ylim(0, 103)
    panel.set_title("test accuracy\nmean and range of the seeds")
    panel.set_xlabel("training steps")
    panel.set_ylabel("test accuracy (%)")
