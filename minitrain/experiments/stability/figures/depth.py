"""Figures of the depth experiment: accuracy and loss against depth, gradients of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.experiments.stability.figures.style import (
    LEVEL,
    SIDES,
    legend_below,
    new_figure,
    panel_title,
    plain_logarithm,
    spread,
)
from minitrain.optional import require

__all__ = ["FLOOR", "draw_depth", "draw_first_gradients", "draw_gradients"]

FLOOR = 1e-10  # gradients below are drawn here: a logarithm has no zero, and some of them are zero


def draw_depth(results: dict[str, Any]) -> Any:
    """Draw test accuracy and test loss against depth, one column for each kind of net."""
    nets, groups = results["experiments"]["depth"]["nets"], _groups(results)
    figure = new_figure(3.0 * len(groups) + 0.6, 5.6)
    panels = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    depths = sorted({net["depth"] for net in nets})
    for column, group in enumerate(groups):
        for side in SIDES:
            chosen = _nets(nets, group, side)
            _draw_spreads(panels[0, column], chosen, side, "test_accuracy", 100.0)
            _draw_spreads(panels[1, column], chosen, side, "test_loss", 1.0)
        panels[0, column].set_title(panel_title(*group))
        panels[0, column].axhline(100 * results["data"]["chance_accuracy"], **LEVEL)
        panels[1, column].axhline(results["data"]["chance_loss"], **LEVEL)
        panels[1, column].set_xlabel("layers with weights")
    panels[0, 0].set_ylim(0, 103)
    panels[0, 0].set_ylabel("test accuracy (%)")
    panels[1, 0].set_yscale("log")
    panels[1, 0].set_ylabel("test loss (nats per image)")
    plain_logarithm(panels[1, 0].yaxis)
    panels[1, 0].set_xscale("log")
    panels[1, 0].set_xticks(depths, [str(depth) for depth in depths])
    panels[1, 0].set_xticks([], minor=True)
    legend_below(figure, [*_side_handles(), _line(label="guessing", **LEVEL)])
    return figure


def draw_first_gradients(results: dict[str, Any]) -> Any:
    """Draw the gradient of every layer's weights at initialization: the deepest nets, and thinly the others."""
    nets, groups = results["experiments"]["depth"]["nets"], _groups(results)
    figure = new_figure(3.0 * len(groups) + 0.6, 3.7)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    deepest = max(net["depth"] for net in nets)
    for panel, group in zip(panels, groups, strict=True):
        for side, style in SIDES.items():
            for net in _nets(nets, group, side):
                norms = _floored([run["gradients"]["norms"][0] for run in net["runs"]])
                layers = np.arange(1, norms.shape[1] + 1)
                thin = net["depth"] != deepest
                look = {"color": style["color"], "linestyle": style["linestyle"]}
                middle = np.exp(np.ma.masked_invalid(np.log(norms)).mean(axis=0))  # geometric mean of what is finite
                panel.plot(layers, middle, **look, linewidth=0.9 if thin else 2.2, alpha=0.6 if thin else 1.0)
                if not thin:
                    panel.fill_between(layers, norms.min(0), norms.max(0), color=look["color"], alpha=0.18, linewidth=0)
        panel.set_title(panel_title(*group))
        panel.set_xlabel("layer (1 sees the image)")
    panels[0].set_yscale("log")
    panels[0].set_ylim(bottom=FLOOR / 3)
    panels[0].set_ylabel("norm of the weights' gradient")
    thin_line = _line(color="0.3", linewidth=0.9, label=f"thin: nets of fewer than {deepest} layers")
    legend_below(figure, [*_side_handles(marks=False), thin_line])
    return figure


def draw_gradients(results: dict[str, Any]) -> Any:
    """Draw the gradients of all layers of the deepest nets over training as maps: layer by step, colour is the norm."""
    nets, groups = results["experiments"]["depth"]["nets"], _groups(results)
    deepest = max(net["depth"] for net in nets)
    figure = new_figure(3.0 * len(groups) + 1.2, 5.6)
    panels = figure.subplots(2, len(groups), sharey=True, squeeze=False)
    colors = require("matplotlib.colors", "drawing the figures")
    colormap = require("matplotlib", "drawing the figures").colormaps["viridis"].with_extremes(bad="0.75")
    scale = colors.LogNorm(1e-6, 1e2)
    for column, group in enumerate(groups):
        for row, side in enumerate(SIDES):
            panel = panels[row, column]
            net = next(net for net in _nets(nets, group, side) if net["depth"] == deepest)
            record = net["runs"][0]["gradients"]
            norms = np.array(record["norms"], dtype=np.float64).T  # (layers, steps); None becomes NaN
            norms = np.maximum(norms, 1e-30)  # a zero is the smallest colour, not a missing one
            edges = np.arange(len(record["steps"]) + 1) - 0.5
            layers = np.arange(len(norms) + 1) + 0.5
            image = panel.pcolormesh(edges, layers, norms, norm=scale, cmap=colormap)
            panel.grid(False)
            panel.set_xticks(range(len(record["steps"])), [str(step) for step in record["steps"]], rotation=45)
            panel.set_title(f"{panel_title(*group)}\n{SIDES[side]['label']}")
    for panel in panels[-1]:
        panel.set_xlabel("steps made")
    for panel in panels[:, 0]:
        panel.set_ylabel("layer (1 sees the image)")
    bar = figure.colorbar(image, ax=panels, extend="both", shrink=0.8)
    bar.set_label("norm of the weights' gradient")
    return figure


def _draw_spreads(panel: Any, nets: list[dict[str, Any]], side: str, key: str, factor: float) -> None:
    """Draw the means over the seeds as a line, with bars from the lowest to the highest."""
    points = [(net["depth"], spread([run[key] for run in net["runs"]])) for net in nets]
    known = [(depth, values) for depth, values in points if values is not None]
    shift = 0.97 if side == "without" else 1.03  # so that bars of the two do not hide each other
    x = [depth * shift for depth, _ in known]
    mean, low, high = np.array([values for _, values in known]).reshape(-1, 3).T * factor
    bars = np.maximum([mean - low, high - mean], 0)  # a mean of equal values may be off by a rounding
    panel.errorbar(x, mean, yerr=bars, capsize=3, elinewidth=1.2, **SIDES[side])


def _groups(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the kinds of net in the order of the runs, each as (kind, activation)."""
    return list(dict.fromkeys((net["kind"], net["activation"]) for net in results["experiments"]["depth"]["nets"]))


def _nets(nets: list[dict[str, Any]], group: tuple[str, str], side: str) -> list[dict[str, Any]]:
    return [net for net in nets if (net["kind"], net["activation"]) == group and net["batch_norm"] == (side == "with")]


def _floored(norms: list[list[float | None]]) -> npt.NDArray[np.float64]:
    return np.maximum(np.array(norms, dtype=np.float64), FLOOR)


def _line(**look: Any) -> Any:
    return require("matplotlib.lines", "drawing the figures").Line2D([], [], **look)


def _side_handles(marks: bool = True) -> list[Any]:
    return [_line(**(style if marks else {**style, "marker": None})) for style in SIDES.values()]
