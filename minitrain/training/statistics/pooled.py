"""Mean and variance of what comes in parts, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nbnorm.jit.arrays import Array

__all__ = ["Pooled"]


@dataclass
class Pooled:
    """Count, mean and sum of squared deviations of what came so far, each channel by itself, in float64."""

    count: int = 0
    mean: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    squares: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add(self, count: int, mean: Array, var: Array) -> None:
        """Take mean and biased variance of `count` values more (Chan, Golub and LeVeque 1979)."""
        if not count:
            return
        total = self.count + count
        step = mean - self.mean if self.count else mean
        shift = step * (self.count * (count / total)) * step if self.count else 0.0
        self.squares = self.squares + var * count + shift
        self.mean = self.mean + step * (count / total) if self.count else mean.copy()
        self.count = total

    @property
    def var(self) -> npt.NDArray[np.float64]:
        """The biased variance."""
        return self.squares / self.count
