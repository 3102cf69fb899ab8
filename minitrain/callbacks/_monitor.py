"""One value of the history, followed over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from nbnorm.jit.checks import expect_number, expect_one_of

__all__ = ["Mode", "Monitor"]

Mode = Literal["auto", "min", "max"]


class Monitor:
    """Follows one value over the epochs and knows which is better.

    `mode` "auto": larger is better for names with "accuracy" in them, smaller for all others.
    """

    def __init__(self, name: str, mode: Mode, min_delta: float = 0.0, best: float | None = None) -> None:
        expect_one_of("mode", mode, ("auto", "min", "max"))
        self.name = name
        self._min_delta = expect_number("min_delta", min_delta, 0.0)
        self._sign = 1.0 if mode == "max" or (mode == "auto" and "accuracy" in name) else -1.0
        self.best = -self._sign * math.inf if best is None else best

    def improves(self, values: Mapping[str, float]) -> bool:
        """Take a new value; tell whether it is better than the best by more than `min_delta`. NaN never is."""
        if self.name not in values:
            hint = "; pass validation_data to fit" if self.name.startswith("val_") else ""
            raise ValueError(f"monitor: expected one of {', '.join(values)}, got {self.name!r}{hint}")
        value = values[self.name]
        better = self._sign * (value - self.best) > self._min_delta if math.isfinite(self.best) else value == value
        if better:
            self.best = value
        return better

    def __repr__(self) -> str:
        return repr(self.name)
