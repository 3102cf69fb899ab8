"""Results of studies that measure test errors over a range of one setting, a line for each net or method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minitrain.experiments.record import Record

__all__ = ["Line", "Lines"]


@dataclass(frozen=True)
class Line(Record):
    """Test errors of one kind of net or method."""

    panel: str  # of the figure
    name: str
    values: list[float]  # of the setting
    errors: list[list[float]]  # shares of the test images, from 0 to 1: for each value, from each seed

    @property
    def means(self) -> list[float]:
        """The mean error at each value."""
        return [float(np.mean(each)) for each in self.errors]

    def at(self, value: float) -> float:
        """Return the mean error at one of the values."""
        return self.means[self.values.index(value)]


@dataclass(frozen=True)
class Lines(Record):
    """The lines of a study."""

    lines: list[Line]

    def of(self, name: str, panel: str = "") -> Line:
        """Return the line of this name."""
        return next(line for line in self.lines if (line.panel, line.name) == (panel, name))

    @property
    def panels(self) -> list[str]:
        """The panels in their order."""
        return list(dict.fromkeys(line.panel for line in self.lines))

    def mean(self, name: str, value: float | None = None) -> float:
        """Return the mean error of a name over all panels, at one value or over all."""
        chosen = [line for line in self.lines if line.name == name]
        return float(np.mean([line.means if value is None else line.at(value) for line in chosen]))
