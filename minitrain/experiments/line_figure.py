"""Figures of test errors over a setting, a panel for each group of lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitrain.experiments.data import DataSummary
from minitrain.experiments.lines import Lines
from minitrain.experiments.style import legend_below, line, new_figure

__all__ = ["drawing"]

COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")  # Okabe & Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def drawing(setting: str, *, logarithmic: bool = True, reverse: bool = False) -> Callable[[Lines, DataSummary], Any]:
    """Return what draws the lines of a study over a setting: means, and the range over the seeds."""

    def draw(result: Lines, data: DataSummary) -> Any:
        panels, names = result.panels, list(dict.fromkeys(each.name for each in result.lines))
        figure = new_figure(max(7.0, 3.1 * len(panels)), 4.2)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            for each in (each for each in result.lines if each.panel == panel):
                look = {"color": COLORS[names.index(each.name)], "marker": MARKERS[names.index(each.name)]}
                low, high = ([100 * edge(errors) for errors in each.errors] for edge in (min, max))
                axis.fill_between(each.values, low, high, color=look["color"], alpha=0.15, linewidth=0)
                axis.plot(each.values, [100 * mean for mean in each.means], **look)
            axis.set_title(panel)
            axis.set_xlabel(setting)
            if logarithmic:
                axis.set_xscale("log")
                values = result.lines[0].values
                axis.set_xticks(values, [f"{value:g}" for value in values])
                axis.set_xticks([], minor=True)
            if reverse:
                axis.invert_xaxis()
        axes[0].set_ylabel("test error, %")
        axes[0].set_ylim(bottom=0)
        handles = [line(color=COLORS[k], marker=MARKERS[k], label=name) for k, name in enumerate(names)]
        legend_below(figure, handles, columns=min(len(names), 4))
        return figure

    return draw
