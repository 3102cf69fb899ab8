"""Gradients of all layers, at initialization and over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sides import LOOKS, side_handles
from minitrain.experiments.stability.records.depth import DepthResult
from minitrain.experiments.stability.records.sides import SIDES
from minitrain.experiments.style import legend_below, line, matplotlib, new_figure
from minitrain.experiments.words import kind_of_net

__all__ = ["draw_first_gradients", "draw_gradients"]

FLOOR = 1e-10  # gradients below are drawn here: a logarithm has no zero, and some of them are zero


def draw_first_gradients(result: DepthResult, data: DataSummary) -> Any:
    """Draw the gradient of every layer's weights at initialization: the deepest nets, and thinly the others."""
    groups, deepest = result.groups, result.depths[-1]
    figure = new_figure(3.0 * len(groups) + 0.6, 3.7)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for panel, group in zip(panels, groups, strict=True):
        for side, style in LOOKS.items():
            for net in result.nets_of(group, side):
                norms = _floored([run.gradients.norms[0] for run in net.runs])
                layers = np.arange(1, norms.shape[1] + 1)
                thin = net.depth != deepest
                look = {"color": style["color"], "linestyle": style["linestyle"]}
                middle = np.exp(np.ma.masked_invalid(np.log(norms)).mean(axis=0))  # geometric mean of what is finite
                panel.plot(layers, middle, **look, linewidth=0.9 if thin else 2.2, alpha=0.6 if thin else 1.0)
                if not thin:
                    panel.fill_between(layers, norms.min(0), norms.max(0), color=look["color"], alpha=0.18, linewidth=0)
        panel.set_title(kind_of_net(*group))
        panel.set_xlabel("layer (1 sees the image)")
    panels[0].set_yscale("log")
    panels[0].set_ylim(bottom=FLOOR / 3)
    panels[0].set_ylabel("norm of the weights' gradient")
    thin_line = line(color="0.3", linewidth=0.9, label=f"thin: nets of fewer than {deepest} layers")
    legend_below(figure, [*side_handles(marks=False), thin_line])
    return figure


def draw_gradients(result: DepthResult, data: DataSummary) -> Any:
    """Draw the gradients of all layers of the deepest nets over training as maps: layer by step, colour is the norm."""
    groups, deepest = result.groups, result.depths[-1]
    figure = new_figure(3.0 * len(groups) + 1.2, 5.6)
    panels = figure.subplots(2, len(groups), sharey=True, squeeze=False)
    colormap = matplotlib().colormaps["viridis"].with_extremes(bad="0.75")
    scale = matplotlib("colors").LogNorm(1e-6, 1e2)
    for column, group in enumerate(groups):
        for row, side in enumerate(SIDES):
            panel = panels[row, column]
            net = next(net for net in result.nets_of(group, side) if net.depth == deepest)
            record = net.runs[0].gradients
            norms = np.array(record.norms, dtype=np.float64).T  # (layers, steps); None becomes NaN
            norms = np.maximum(norms, 1e-30)  # a zero is the smallest colour, not a missing one
            edges = np.arange(len(record.steps) + 1) - 0.5
            layers = np.arange(len(norms) + 1) + 0.5
            image = panel.pcolormesh(edges, layers, norms, norm=scale, cmap=colormap)
            panel.grid(False)
            panel.set_xticks(range(len(record.steps)), [str(step) for step in record.steps], rotation=45)
            panel.set_title(f"{kind_of_net(*group)}\n{LOOKS[side]['label']}")
    for panel in panels[-1]:
        panel.set_xlabel("steps made")
    for panel in panels[:, 0]:
        panel.set_ylabel("layer (1 sees the image)")
    bar = figure.colorbar(image, ax=panels, extend="both", shrink=0.8)
    bar.set_label("norm of the weights' gradient")
    return figure


def _floored(norms: list[list[float | None]]) -> npt.NDArray[np.float64]:
    return np.maximum(np.array(norms, dtype=np.float64), FLOOR)
