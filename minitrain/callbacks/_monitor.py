"""One value of the history, followed over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from minitrain.training.step import Learner
from nbnorm.jit.checks import expect_number, expect_one_of

__all__ = ["Mode", "Monitor"]

Mode = Literal["auto", "min", "max"]

# Where nothing but a name is known: what our own losses and metrics are called, the last word of it.
SMALLER, LARGER = ("loss",), ("accuracy", "roc_auc", "f1")


class Monitor:
    """Follows one value over the epochs and knows which is better.

    `mode` "auto": smaller is better for losses; a metric says it itself by its attribute `larger_is_better`. Of a bare
    function nobody knows it: `mode` must be given.
    """

    def __init__(self, name: str, mode: Mode = "auto", min_delta: float = 0.0, best: float | None = None) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"monitor: expected the name of a value in the history, got {name!r}")
        self.name = name
        self.mode = expect_one_of("mode", mode, ("auto", "min", "max"))
        self._min_delta = expect_number("min_delta", min_delta, 0.0)
        self._larger: bool | None = {"min": False, "max": True}.get(self.mode, _direction_of_name(name))
        self.best: float | None = None if best is None else float(expect_number("best", best))

    def check(self, expected: Mapping[str, bool | None]) -> None:
        """Raise ValueError where the history will not have the value, or nobody knows which values are better."""
        if self.name not in expected:
            raise ValueError(self._unknown(expected))
        self.learn_direction(expected)

    def learn_direction(self, expected: Mapping[str, bool | None]) -> None:
        """Take the direction from what is known of the values of a training; ValueError where it is not known."""
        if self.mode != "auto" or self.name not in expected:
            return
        larger = expected[self.name]
        if larger is None:
            raise ValueError(self._ambiguous())
        self._larger = larger

    def begin(self, trainer: Learner) -> None:
        """Take the direction from the metrics of a trainer, where nobody called `check`."""
        measured = trainer.directions()
        self.learn_direction({**measured, **{f"val_{name}": larger for name, larger in measured.items()}})
        if self._larger is None and self.name.removeprefix("val_") not in measured:
            self._larger = False  # a value of the caller's own: as a loss

    def improves(self, values: Mapping[str, float]) -> bool:
        """Take a new value; tell whether it is better than the best by more than `min_delta`. NaN never is."""
        if self.name not in values:
            raise ValueError(self._unknown(values))
        value = float(values[self.name])
        better = not math.isnan(value) and (self.best is None or self._is_better(value, self.best))
        if better:
            self.best = value
        return better

    def _is_better(self, value: float, best: float) -> bool:
        if value == best:
            return False
        if self._larger is None:
            raise ValueError(self._ambiguous())
        gain = value - best if self._larger else best - value
        return gain > self._min_delta

    def state(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"best": self.best}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self.best = None if state["best"] is None else float(state["best"])

    def _unknown(self, names: Mapping[str, Any]) -> str:
        hint = ""
        if self.name.startswith("val_") and not any(name.startswith("val_") for name in names):
            hint = "; pass validation_data to fit"
        return f"monitor: expected one of {', '.join(names)}, got {self.name!r}{hint}"

    def _ambiguous(self) -> str:
        return (
            f"mode: expected 'min' or 'max' with monitor={self.name!r}, as nothing says which values are better, got "
            "'auto'; or give the metric an attribute larger_is_better"
        )

    def __repr__(self) -> str:
        return repr(self.name)


def _direction_of_name(name: str) -> bool | None:
    """Tell whether larger is better of a value of which only the name is known; None where that says nothing."""
    if any(name == each or name.endswith(f"_{each}") for each in SMALLER):
        return False
    is_top = name.rpartition("top_")[2].isdigit() and "top_" in name
    return True if is_top or any(name == each or name.endswith(f"_{each}") for each in LARGER) else None
