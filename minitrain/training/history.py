"""History: what was measured in each epoch, as numbers, as a picture, as a table."""

from __future__ import annotations

import csv
import html
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minitrain.files import replacing, write_text
from minitrain.optional import require
from minitrain.sealed import Sealed
from minitrain.terminal.notebook import figure_html, table_html

__all__ = ["History"]

NO_CURVES = ("learning_rate", "seconds", "images_per_second")
ROWS = 10  # of the table that a notebook shows without matplotlib: the first and the last ones


@dataclass(repr=False)
class History(Sealed, sealed=True):
    """Measurements of one `fit`.

    Attributes
    ----------
    epochs : list of int
        Numbers of the epochs, counted from 1 over the life of the trainer.
    metrics : dict of name to list of float
        One value for each epoch: "loss" and "accuracy" (means over the epoch's batches while the net was learning; of
        several outputs "loss" is the weighted sum, beside "class_loss", "class_accuracy" and so on by output),
        "val_loss" and "val_accuracy" (of the trained net after the epoch), "learning_rate" (of the last step),
        "seconds" (of training, without validation; the first epoch's may hold compilation), "images_per_second". NaN
        where something was not measured.
    interrupted : bool
        Whether Ctrl-C, SIGTERM or SIGHUP ended the training.
    signal : int or None
        Which of them: its number.
    partial_epoch : int or None
        The epoch that was cut short; its values, the last ones, are means over the batches that were trained.
    """

    assignable = frozenset({"epochs", "metrics", "interrupted", "partial_epoch", "signal"})

    epochs: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False
    partial_epoch: int | None = None
    signal: int | None = None

    def append(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of one epoch; names that come or go are filled with NaN."""
        for name in values:
            self.metrics.setdefault(name, [math.nan] * len(self.epochs))
        self.epochs.append(epoch)
        for name, series in self.metrics.items():
            series.append(float(values.get(name, math.nan)))

    def copy(self) -> History:
        """Return one that shares nothing with this."""
        metrics = {name: list(series) for name, series in self.metrics.items()}
        return History(list(self.epochs), metrics, self.interrupted, self.partial_epoch, self.signal)

    def last(self) -> dict[str, float]:
        """Return the values of the last epoch."""
        return {name: series[-1] for name, series in self.metrics.items()}

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        epochs = "1 epoch" if len(self.epochs) == 1 else f"{len(self.epochs)} epochs"
        values = [f"{name} {value:.4g}" for name, value in self.last().items() if name not in NO_CURVES]
        ended = ["interrupted"] * self.interrupted
        return f"History({', '.join([epochs, *ended])}; last: {', '.join(values) or 'nothing measured'})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the last values and the curves, or a table where matplotlib is missing."""
        line = f"<p>{html.escape(repr(self))}</p>"
        if not self.epochs:
            return line
        try:
            return line + figure_html(self.plot())
        except ImportError:
            return line + table_html(self._rows(), align=">")

    def _rows(self) -> list[list[str]]:
        """The headings and the epochs of a table that fits a screen."""
        rows = [
            [str(epoch), *(f"{series[i]:.4g}" for series in self.metrics.values())]
            for i, epoch in enumerate(self.epochs)
        ]
        if len(rows) > ROWS:
            rows[ROWS // 2 : -ROWS // 2] = [["..."] * len(rows[0])]
        return [["epoch", *self.metrics], *rows]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a header and a row for each epoch; whole or not at all."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["epoch", *self.metrics])
        table.writerows(zip(self.epochs, *self.metrics.values(), strict=True))
        write_text(path, text.getvalue())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the curves of losses and metrics over the epochs.

        Parameters
        ----------
        path : str or path-like, optional
            Where to write the picture too; the ending says the format (png, svg, pdf), png without one.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        names = [name for name in self.metrics if self._is_curve(name)]
        make = require("matplotlib.figure", "drawing training curves").Figure
        figure = make(figsize=(max(9, 3.6 * len(names)), 3.6), layout="constrained")
        axes = figure.subplots(1, max(len(names), 1), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=False):
            self._draw(axis, name)
        if path is not None:
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=150, format=_picture_format(path))
        return figure

    def _is_curve(self, name: str) -> bool:
        return not name.startswith("val_") and name not in NO_CURVES

    def _draw(self, axis: Any, name: str) -> None:
        marker = "o" if len(self.epochs) < 30 else None
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in self.metrics:
                axis.plot(self.epochs, self.metrics[key], marker=marker, markersize=3, label=label)
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"{name} (mean per sample)" if name == "loss" or name.endswith("_loss") else name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()


def _picture_format(path: str | os.PathLike[str]) -> str:
    """Return the format that the ending of a file's name says: matplotlib would add an ending of its own to none."""
    return Path(path).suffix.removeprefix(".").lower() or "png"
