"""Accuracy and loss against depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sides import LOOKS, side_handles
from minitrain.experiments.stability.records.depth import DepthNet, DepthResult
from minitrain.experiments.stability.records.sides import SIDES, Side
from minitrain.experiments.style import LEVEL, legend_below, line, new_figure, plain_logarithm
from minitrain.experiments.words import kind_of_net

__all__ = ["draw_depth"]


def draw_depth(result: DepthResult, data: DataSummary) -> Any:
    """Draw test accuracy and test loss against depth, one column for each kind of net."""
    groups, depths = result.groups, result.depths
    figure = new_figure(3.0 * len(groups) + 0.6, 5.6)
    panels = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, group in enumerate(groups):
        for side in SIDES:
            chosen = result.nets_of(group, side)
            accuracies = [[100.0 * run.test_accuracy for run in net.runs] for net in chosen]
            losses = [[run.test_loss for run in net.runs] for net in chosen]
            _draw_spreads(panels[0, column], chosen, accuracies, side)
            _draw_spreads(panels[1, column], chosen, losses, side)
        panels[0, column].set_title(kind_of_net(*group))
        panels[0, column].axhline(100 * data.chance_accuracy, **LEVEL)
        panels[1, column].axhline(data.chance_loss, **LEVEL)
        panels[1, column].set_xlabel("layers with weights")
    panels[0, 0].set_ylim(0, 103)
    panels[0, 0].set_ylabel("test accuracy (%)")
    panels[1, 0].set_yscale("log")
    panels[1, 0].set_ylabel("test loss (nats per image)")
    plain_logarithm(panels[1, 0].yaxis)
    panels[1, 0].set_xscale("log")
    panels[1, 0].set_xticks(depths, [str(depth) for depth in depths])
    panels[1, 0].set_xticks([], minor=True)
    legend_below(figure, [*side_handles(), line(label="guessing", **LEVEL)])
    return figure


def _draw_spreads(panel: Any, nets: Sequence[DepthNet], values: Sequence[Sequence[float | None]], side: Side) -> None:
    """Draw the means over the seeds as a line, with bars from the lowest to the highest."""
    points = [(net.depth, spread(seeds)) for net, seeds in zip(nets, values, strict=True)]
    known = [(depth, spread) for depth, spread in points if spread is not None]
    shift = 0.97 if side == "without" else 1.03  # so that bars of the two do not hide each other
    x = [depth * shift for depth, _ in known]
    mean, low, high = np.array([values for _, values in known]).reshape(-1, 3).T
    bars = np.maximum([mean - low, high - mean], 0)  # a mean of equal values may be off by a rounding
    panel.errorbar(x, mean, yerr=bars, capsize=3, elinewidth=1.2, **LOOKS[side])


def spread(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Return mean, lowest and highest of what is finite; None where nothing is."""
    known = [value for value in values if value is not None]
    return (float(np.mean(known)), min(known), max(known)) if known else None
