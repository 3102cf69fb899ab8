"""Learning rates as functions of the optimizer step, counted from 0: pure, so that resuming needs the step alone.

A schedule goes where a learning rate goes: `optimizers.SGD(schedules.Cosine(0.1, total_steps=1000), momentum=0.9)`.
Beyond its last step a schedule keeps its last value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from nbnorm.jit.checks import expect_integer, expect_number, mismatch, set_checked

__all__ = ["Constant", "Cosine", "LinearWarmup", "OneCycle", "Scaled", "Schedule", "Step"]


@dataclass(frozen=True)
class Schedule:
    """Base class of the schedules: `schedule(step)` is the learning rate of that step."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of this step (the first is 0)."""
        raise TypeError(f"{type(self).__name__} has no rate: use one of {', '.join(__all__)}")

    def config(self) -> dict[str, Any]:
        """Return the class name and the fields as JSON-able values."""
        return {"class": type(self).__name__, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}


def plain(value: Any) -> Any:
    """Return a field as a JSON-able value: a schedule as its own `config()`, a mapping as a dict, a tuple as a list."""
    if isinstance(value, Schedule):
        return value.config()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step."""

    value: float

    def __post_init__(self) -> None:
        set_checked(self, value=expect_number("value", self.value, 0.0))

    def __call__(self, step: int) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Step(Schedule):
    """`start`, multiplied by `factor` after every `every` steps, or at each of the `milestones`: give one of the two.

    Examples
    --------
    >>> rate = Step(0.5, every=10, factor=0.5)
    >>> rate(9), rate(10), rate(25)
    (0.5, 0.25, 0.125)
    >>> Step(1.0, milestones=(100, 150))(120)
    0.1
    """

    start: float
    every: int | None = None
    milestones: tuple[int, ...] = ()
    factor: float = 0.1

    def __post_init__(self) -> None:
        if (self.every is None) == (not self.milestones):
            raise ValueError("every, milestones: expected one of the two")
        set_checked(
            self,
            start=expect_number("start", self.start, 0.0),
            every=None if self.every is None else expect_integer("every", self.every, 1),
            milestones=tuple(expect_integer("milestones", milestone, 1) for milestone in self.milestones),
            factor=expect_number("factor", self.factor, 0.0),
        )
        if any(a >= b for a, b in pairwise(self.milestones)):
            raise ValueError(mismatch("milestones", "increasing steps", self.milestones))

    def __call__(self, step: int) -> float:
        drops = sum(step >= m for m in self.milestones) if self.every is None else step // self.every
        return float(self.start * self.factor**drops)


def _cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine wave from start (fraction 0) to end (fraction 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from `start` at step 0 to `end` at step `total_steps`.

    Loshchilov & Hutter, "SGDR", 2017 (arXiv:1608.03983), without restarts.
    """

    start: float
    total_steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        set_checked(
            self,
            start=expect_number("start", self.start, 0.0),
            total_steps=expect_integer("total_steps", self.total_steps, 1),
            end=expect_number("end", self.end, 0.0),
        )

    def __call__(self, step: int) -> float:
        return _cosine(self.start, self.end, min(step / self.total_steps, 1.0))


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """A straight line up to the first rate of `then` within `steps` steps, and `then` from there on.

    Step i < steps has the fraction (i + 1) / steps of that rate: no step is lost at rate 0, and the last one of the
    warm-up has the full rate. `then` counts its own steps from 0. Goyal et al. 2017 (arXiv:1706.02677), section 2.2.

    Examples
    --------
    >>> rate = LinearWarmup(4, then=Cosine(1.0, total_steps=10))
    >>> [rate(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    steps: int
    then: Schedule | float

    def __post_init__(self) -> None:
        set_checked(self, steps=expect_integer("steps", self.steps, 1))
        if not isinstance(self.then, Schedule):
            set_checked(self, then=expect_number("then", self.then, 0.0))

    def __call__(self, step: int) -> float:
        then = self.then if isinstance(self.then, Schedule) else Constant(self.then)
        return then(0) * (step + 1) / self.steps if step < self.steps else then(step - self.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from `peak / start_divisor` to `peak`, then down to `peak / start_divisor / end_divisor`, both as cosines.

    `warmup` is the fraction of `total_steps` spent going up. The same numbers as PyTorch's OneCycleLR. Smith & Topin,
    "Super-convergence", 2018 (arXiv:1708.07120).
    """

    peak: float
    total_steps: int
    warmup: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        set_checked(
            self,
            peak=expect_number("peak", self.peak, 0.0),
            total_steps=expect_integer("total_steps", self.total_steps, 1),
            warmup=expect_number("warmup", self.warmup, 0.0, 1.0),
            start_divisor=expect_number("start_divisor", self.start_divisor, 0.0, open_low=True),
            end_divisor=expect_number("end_divisor", self.end_divisor, 0.0, open_low=True),
        )

    def __call__(self, step: int) -> float:
        start = self.peak / self.start_divisor
        top = self.warmup * self.total_steps - 1  # the step of the peak; the last step is total_steps - 1
        last = self.total_steps - 1
        if step < top:
            return _cosine(start, self.peak, step / top)
        end = start / self.end_divisor
        if top >= last:
            return self.peak if step <= last else end
        return _cosine(self.peak, end, min((step - top) / (last - top), 1.0))


@dataclass(frozen=True)
class Scaled(Schedule):
    """`factor` times the rate of `then`; `least` bounds what the factor does, not what `then` does by itself.

    What `callbacks.ReduceLROnPlateau` puts into an optimizer.

    Examples
    --------
    >>> rate = Scaled(Step(0.8, every=10, factor=0.5), factor=0.5, least=0.3)
    >>> rate(0), rate(10), rate(20)
    (0.4, 0.3, 0.2)
    """

    then: Schedule | float
    factor: float
    least: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            set_checked(self, then=expect_number("then", self.then, 0.0))
        set_checked(
            self,
            factor=expect_number("factor", self.factor, 0.0, 1.0),
            least=expect_number("least", self.least, 0.0),
        )

    def __call__(self, step: int) -> float:
        rate = self.then(step) if isinstance(self.then, Schedule) else float(self.then)
        return max(rate * self.factor, min(self.least, rate))
