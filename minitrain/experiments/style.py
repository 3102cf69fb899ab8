"""What the figures of all pages have in common."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from minitrain.optional import require

__all__ = ["LEVEL", "legend_below", "line", "matplotlib", "new_figure", "plain_logarithm", "styled", "to_png"]

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


def matplotlib(module: str = "") -> Any:
    """Import and return matplotlib or a module of it.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    return require(f"matplotlib.{module}" if module else "matplotlib", "drawing the figures")


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures look alike."""
    context: AbstractContextManager[None] = matplotlib().rc_context(STYLE)
    return context


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that arranges its own margins; sizes in inches."""
    return matplotlib("figure").Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Any) -> bytes:
    """Return the figure as a PNG file, without the date, so that the same numbers give the same file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def line(**look: Any) -> Any:
    """Return a line for a legend."""
    return matplotlib("lines").Line2D([], [], **look)


def legend_below(figure: Any, handles: Sequence[Any], columns: int = 4) -> None:
    """Put one legend for all panels under them."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def plain_logarithm(axis: Any) -> None:
    """Label a short logarithmic axis with numbers instead of powers."""
    ticker = matplotlib("ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.NullFormatter())
