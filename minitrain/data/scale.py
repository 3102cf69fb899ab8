"""On what scale the inputs were that a net was trained on, and whether others are on it, too."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minitrain.arrays.mapped import some_of
from nbnorm.jit.arrays import Array

__all__ = ["Scale", "measured", "scales_from", "some_rows", "warn_of_other_scales"]

VALUES = 1 << 20  # of an input that are looked at, about: enough for its range, and a millisecond's work
LARGER, SMALLER = 8.0, 50.0  # times the range: a picture may well be bright, or dark, but not by so much
USUAL = (200.0, 260.0)  # times the range: bytes where shares were trained on, or the other way round
MANY_NEGATIVE, FEW_VALUES, SOME_NEGATIVE = 0.2, 64, 0.05


@dataclass(frozen=True)
class Scale:
    """What is remembered of an input.

    Attributes
    ----------
    shape : tuple of int
        Of a sample: channels first, where these are pictures.
    dtype : str
        As it was given.
    low, high, mean, std : float
    negative : float
        The share of values below 0.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: float
    std: float
    negative: float

    def config(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {**asdict(self), "shape": list(self.shape)}

    def difference(self, values: Array) -> str | None:
        """Say how values differ from these, and what to do; None where they may well be on the same scale."""
        finite = values[np.isfinite(values)].astype(np.float64)
        if not finite.size:
            return None
        low, high = float(finite.min()), float(finite.max())
        before, now = max(abs(self.low), abs(self.high)), max(abs(low), abs(high))
        got = f"values from {low:.4g} to {high:.4g}, but the net was trained on {self.low:.4g} to {self.high:.4g}"
        negative = float((finite < 0.0).mean())
        if before and now > LARGER * before:
            usual = USUAL[0] <= now / before <= USUAL[1]
            return f"{got}; {'divide them by 255' if usual else 'bring them to that scale first'}"
        if now and now < before / SMALLER:
            usual = USUAL[0] <= before / now <= USUAL[1]
            return f"{got}; {'multiply them by 255' if usual else 'bring them to that scale first'}"
        if self.negative >= MANY_NEGATIVE and not negative and finite.size >= FEW_VALUES:
            return f"{got}, with a mean of {self.mean:.3g} and a deviation of {self.std:.3g}; standardize them as then"
        if self.low >= 0.0 and negative > SOME_NEGATIVE and low < -SOME_NEGATIVE * before:
            return f"{got}; bring them to that scale first"
        return None


def measured(arrays: Sequence[Array]) -> list[Scale]:
    """Return the scales of inputs, from some of their samples."""
    scales = []
    for each in arrays:
        values = each[np.isfinite(each)].astype(np.float64) if each.dtype.kind == "f" else each.astype(np.float64)
        if not values.size:
            values = np.zeros(1)
        numbers = values.min(), values.max(), values.mean(), values.std(), (values < 0.0).mean()
        scales.append(Scale(tuple(each.shape[1:]), str(each.dtype), *map(float, numbers)))
    return scales


def scales_from(config: Any) -> list[Scale]:
    """Return scales from what `Scale.config` gave; none where that is something else."""
    try:
        return [Scale(**{**each, "shape": tuple(each["shape"])}) for each in config or []]
    except (TypeError, KeyError):
        return []


def some_rows(array: Array, count: int) -> Array:
    """Return which of `count` samples are looked at: some from everywhere, in increasing order."""
    size = max(int(np.prod(array.shape[1:])), 1)
    wanted = min(max(VALUES // size, 16), 1024, count)
    return np.unique(np.linspace(0, count - 1, wanted).astype(np.intp))


def warn_of_other_scales(label: str, scales: Sequence[Scale], arrays: Sequence[Array], stacklevel: int = 3) -> None:
    """Warn of inputs that are on another scale than those that were trained on."""
    for number, (scale, each) in enumerate(zip(scales, arrays, strict=False)):
        if each.dtype.kind not in "fiub" or not len(each):
            continue
        difference = scale.difference(some_of(np.asanyarray(each), some_rows(each, len(each))))
        if difference is not None:
            name = label if len(arrays) == 1 else f"{label}, input {number}"
            warnings.warn(f"{name}: {difference}", stacklevel=stacklevel)
