"""A search for a good learning rate: the loss while the rate rises, on a trainer that is afterwards as it was."""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minitrain.data.samples import Samples
from minitrain.files import replacing
from minitrain.optional import require
from minitrain.schedules import Schedule
from minitrain.terminal.notebook import figure_html
from minitrain.training.diagnosis import NonFiniteLossError
from minitrain.training.step import Batch, Learner, Targets
from nbnorm.jit.checks import expect_integer, expect_number, mismatch

__all__ = ["LearningRateFinder", "find_learning_rate"]

SHORTEST = 3  # values that have a valley


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From `start` to `end` in equal factors, within `steps` steps from step `first` on."""

    start: float
    end: float
    steps: int
    first: int

    def __call__(self, step: int) -> float:
        return float(self.start * (self.end / self.start) ** ((step - self.first) / (self.steps - 1)))


@dataclass(frozen=True)
class LearningRateFinder:
    """What `Trainer.find_learning_rate` measured.

    Attributes
    ----------
    rates, losses : list of float
        The learning rate of each step, and the loss of its batch before the update.
    smoothed : list of float
        The losses as an exponential moving average that is corrected for its beginning.
    diverged : bool
        Whether the search ended before the last rate, at a loss that was much too large or not finite.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    diverged: bool

    @property
    def suggestion(self) -> float | None:
        """A rate in the steep middle of the longest fall of the smoothed losses; None where they do not fall.

        fastai's "valley": two thirds down the longest falling subsequence, of which the first tenth of the search and
        its last five steps, where the losses blow up, are no part.
        """
        begin, end = len(self.smoothed) // 10, len(self.smoothed) - 5 * self.diverged
        if end - begin < SHORTEST:
            return None
        valley = _longest_fall(self.smoothed[begin:end])
        if len(valley) < SHORTEST:
            return None
        third = (valley[-1] - valley[0]) / 3
        return self.rates[begin + valley[0] + int(third) + int(third / 2)]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the smoothed losses over the rates, and the suggestion.

        Parameters
        ----------
        path : str or path-like, optional
            Where to write the picture too; the ending says the format (png, svg, pdf).

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        figure = require("matplotlib.figure", "drawing learning rates").Figure(figsize=(6, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.plot(self.rates, self.losses, color="0.8", label="loss of each batch")
        axis.plot(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            axis.axvline(self.suggestion, color="C1", linestyle="--", label=f"suggestion: {self.suggestion:.2g}")
        axis.set_xscale("log")
        if self.smoothed:
            low, high = min(self.smoothed), max(self.smoothed)
            margin = 0.1 * (high - low) or 1.0
            axis.set_ylim(low - margin, high + margin)
        axis.set_xlabel("learning rate")
        axis.set_ylabel("loss (mean per sample)")
        axis.grid(alpha=0.3)
        axis.legend()
        if path is not None:
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=150)
        return figure

    def __repr__(self) -> str:
        if not self.rates:
            return "LearningRateFinder(nothing measured)"
        ended = "diverged" if self.diverged else "ended"
        suggestion = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.3g}"
        return f"LearningRateFinder({suggestion}; {len(self.rates)} rates from {self.rates[0]:.3g}, {ended} at " + (
            f"{self.rates[-1]:.3g})"
        )

    def _repr_html_(self) -> str:
        """Return the picture for a notebook, or what `repr` says without matplotlib."""
        try:
            return figure_html(self.plot())
        except ImportError:
            return f"<pre>{html.escape(repr(self))}</pre>"


def find_learning_rate(
    trainer: Learner,
    x: Batch,
    y: Targets,
    *,
    start: float,
    end: float,
    steps: int,
    batch_size: int,
    smoothing: float,
    stop_factor: float,
    seed: int | None,
) -> LearningRateFinder:
    """Do what `Trainer.find_learning_rate` says."""
    start = expect_number("start", start, 0.0, open_low=True)
    end = expect_number("end", end, 0.0, open_low=True)
    if end <= start:
        raise ValueError(mismatch("end", f"a rate above start, which is {start:g}", f"{end:g}"))
    steps = expect_integer("steps", steps, 2)
    batch_size = expect_integer("batch_size", batch_size, 1)
    smoothing = expect_number("smoothing", smoothing, 0.0, 1.0, open_high=True)
    stop_factor = expect_number("stop_factor", stop_factor, 1.0, open_low=True)
    seed = trainer.model.seed if seed is None else expect_integer("seed", seed, 0)
    samples = Samples(trainer.model, trainer.objective, x, y)
    batches = _batches(len(samples), min(batch_size, len(samples)), seed)
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    ramp = _Ramp(start, end, steps, trainer.steps)
    quiet = np.errstate(over="ignore", invalid="ignore")  # a step looks at its numbers itself
    with _restored(trainer), quiet:
        trainer.optimizer = replace(trainer.optimizer, learning_rate=ramp)
        while len(rates) < steps:
            rate, indices = ramp(trainer.steps), next(batches)
            try:
                loss = _learn(trainer, samples, indices)
            except NonFiniteLossError:
                if not rates:
                    raise  # that has nothing to do with the rate
                break
            rates.append(rate)
            losses.append(loss)
            average = smoothing * average + (1 - smoothing) * loss
            smoothed.append(average / (1 - smoothing ** len(losses)))
            if smoothed[-1] > stop_factor * min(smoothed) and min(smoothed) > 0:
                break
    return LearningRateFinder(rates, losses, smoothed, len(rates) < steps)


def _learn(trainer: Learner, samples: Samples, indices: Any) -> float:
    with trainer.held(samples.shapes(len(indices))) as plan:
        targets = samples.gather(indices, plan)
        return trainer.learn(plan, targets, lambda: samples.copy_of(indices))


def _batches(count: int, size: int, seed: int) -> Iterator[Any]:
    """Full batches without end, each pass over the samples in an order of its own."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(count)
        for first in range(0, count - size + 1, size):
            yield order[first : first + size]


@contextlib.contextmanager
def _restored(trainer: Learner) -> Iterator[None]:
    """Let a block train, and put everything back afterwards, whatever happens."""
    model, optimizer = trainer.model, trainer.optimizer
    params, state, gradients = model.flat_params.copy(), model.flat_state.copy(), model.flat_gradients.copy()
    slots = {name: slot.copy() for name, slot in trainer.slots.items()}
    counted = (trainer.steps, trainer.epoch, trainer.stop_requested)
    try:
        yield
    finally:
        trainer.optimizer = optimizer
        np.copyto(model.flat_params, params)
        np.copyto(model.flat_state, state)
        np.copyto(model.flat_gradients, gradients)
        for name, slot in slots.items():
            np.copyto(trainer.slots[name], slot)
        trainer.steps, trainer.epoch, trainer.stop_requested = counted


def _longest_fall(values: list[float]) -> list[int]:
    """Return the indices of the longest subsequence in which each value is below the one before."""
    lengths, before = [1] * len(values), [-1] * len(values)
    for i, value in enumerate(values):
        for j in range(i):
            if values[j] > value and lengths[j] + 1 > lengths[i]:
                lengths[i], before[i] = lengths[j] + 1, j
    index = max(range(len(values)), key=lengths.__getitem__, default=-1)
    fall: list[int] = []
    while index >= 0:
        fall.append(index)
        index = before[index]
    return fall[::-1]
