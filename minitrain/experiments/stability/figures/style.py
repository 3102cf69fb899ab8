"""The figures of the stability report: what they have in common, and the list of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitrain.optional import require

__all__ = [
    "LEVEL",
    "SIDES",
    "draw_all",
    "legend_below",
    "new_figure",
    "panel_title",
    "plain_logarithm",
    "spread",
    "to_png",
]

# Colours of Okabe & Ito, told apart by people with any common colour vision and in grey; lines and marks differ too.
SIDES: dict[str, dict[str, Any]] = {
    "without": {"color": "#D55E00", "linestyle": "--", "marker": "s", "label": "without batch norm"},
    "with": {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "with batch norm"},
}
LEVEL: dict[str, Any] = {"color": "0.45", "linestyle": ":", "linewidth": 1.2}  # lines of reference, such as chance
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
}
DPI = 160
ACTIVATION_NAMES = {"relu": "ReLU", "sigmoid": "sigmoid"}


def draw_all(results: dict[str, Any]) -> dict[str, bytes]:
    """Return the figures of all finished experiments as PNG files, by name.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    from minitrain.experiments.stability.figures import depth, ioffe_szegedy, sweep

    drawings: list[tuple[str, str, Callable[[dict[str, Any]], Any]]] = [
        ("depth", "depth", depth.draw_depth),
        ("gradients_at_start", "depth", depth.draw_first_gradients),
        ("gradients_in_training", "depth", depth.draw_gradients),
        ("learning_rate", "learning_rate", sweep.draw_rates),
        ("initialization", "initialization", sweep.draw_scales),
        ("ioffe_szegedy", "ioffe_szegedy", ioffe_szegedy.draw_sigmoid),
    ]
    with require("matplotlib", "drawing the figures").rc_context(STYLE):
        return {
            name: to_png(draw(results)) for name, experiment, draw in drawings if experiment in results["experiments"]
        }


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that arranges its own margins; sizes in inches."""
    return require("matplotlib.figure", "drawing the figures").Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Any) -> bytes:
    """Return the figure as a PNG file, without the date, so that the same numbers give the same file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def legend_below(figure: Any, handles: Sequence[Any], columns: int = 4) -> None:
    """Put one legend for all panels under them."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def panel_title(kind: str, activation: str) -> str:
    """Return how a kind of net is called over a panel and in a sentence."""
    return f"{kind}, {ACTIVATION_NAMES[activation]}"


def spread(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Return mean, lowest and highest of what is finite; None where nothing is."""
    known = [value for value in values if value is not None]
    return (float(np.mean(known)), min(known), max(known)) if known else None


def plain_logarithm(axis: Any) -> None:
    """Label a short logarithmic axis with numbers instead of powers."""
    ticker = require("matplotlib.ticker", "drawing the figures")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.NullFormatter())
