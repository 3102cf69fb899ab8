"""One training run of an experiment: fixed steps, fixed batches, what came of it in one word and in numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from minitrain.data.samples import ranges
from minitrain.experiments.data import Data
from minitrain.experiments.record import Record
from minitrain.experiments.watch import Watch
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.optimizers import SGD
from minitrain.schedules import Schedule
from minitrain.training.diagnosis import NonFiniteLossError
from minitrain.training.trainer import Trainer

__all__ = [
    "OUTCOMES",
    "Recipe",
    "Seeded",
    "Trained",
    "TrainedTrial",
    "Trial",
    "Tuned",
    "batches",
    "classify",
    "finite",
    "in_threads",
    "train",
    "tune",
]

TRAINED_ACCURACY = 0.5  # of the test images
CHANCE_LOSS_FRACTION = 0.9  # a final training loss above this part of ln(classes) is no better than guessing
DIVERGED_LOSS_FACTOR = 1.5  # one above this multiple of it is worse than guessing

OUTCOMES = {
    "trained": f"at least {100 * TRAINED_ACCURACY:g} % of the test images right",
    "partly": "better than guessing on the training batches, but fewer test images right than that",
    "chance": f"a final training loss above {CHANCE_LOSS_FRACTION:g} ln(classes): no better than guessing",
    "diverged": "a loss or gradient that is not finite, or a final training loss above "
    f"{DIVERGED_LOSS_FACTOR:g} ln(classes): worse than guessing",
}

Probe = Callable[[int, Trainer], None]


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: steps of SGD with momentum on batches whose order comes from the seed."""

    steps: int
    learning_rate: float | Schedule
    momentum: float = 0.9
    batch_size: int = 64


@dataclass(frozen=True)
class Seeded(Record):
    """What a run started from: the seed of its first weights and of the order of its batches."""

    seed: int


@dataclass(frozen=True)
class Trial(Seeded):
    """What a run started from where its learning rate is one of several."""

    learning_rate: float


@dataclass(frozen=True)
class Trained(Record):
    """What came of a run.

    The records of an experiment's runs put it behind what a run started from: `class MyRun(Trained, Seeded)`.
    """

    outcome: str  # a key of OUTCOMES
    steps: int  # made
    final_training_loss: float | None  # mean over the last tenth of the steps; None where the run broke off
    test_loss: float | None
    test_accuracy: float
    training_loss: list[list[float | None]]  # [step, mean loss since the entry before]


@dataclass(frozen=True)
class TrainedTrial(Trained, Trial):
    """A run at one of several learning rates."""


Run = TypeVar("Run", bound=TrainedTrial)
Case = TypeVar("Case")
Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Tuned(Record, Generic[Run]):
    """The runs of a net at the learning rate that suits it, and those at the others."""

    learning_rate: float
    runs: list[Run]  # one for each seed
    other_rates: list[Run]  # from the first seed


def tune(once: Callable[[float, int], Run], rates: Sequence[float], seed: int, seeds: int) -> Tuned[Run]:
    """Train at each rate from the first seed, then from the others at the rate with the lowest training loss.

    `once(rate, seed)` is a run. A rate whose run broke off is taken only where all did.
    """
    trials = [once(rate, seed) for rate in rates]
    best = min(trials, key=lambda trial: np.inf if trial.final_training_loss is None else trial.final_training_loss)
    others = [once(best.learning_rate, seed + number) for number in range(1, seeds)]
    return Tuned(best.learning_rate, [best, *others], [trial for trial in trials if trial is not best])


def in_threads(function: Callable[[Case], Measured], cases: Sequence[Case], watch: Watch) -> list[Measured]:
    """Return what `function` gives for each case, with as many cases at a time as kernels have threads.

    The nets are so small that a kernel does not pay for a second thread; two nets at a time do. Each stays what it
    is alone: kernels give the same bits for any number of threads.
    """
    threads = numba.get_num_threads()
    if threads == 1:
        return [function(case) for case in cases]
    # A count of threads belongs to the thread that sets it, and each case has one to itself.
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        try:
            return list(pool.map(function, cases))
        except BaseException:
            watch.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def batches(data: Data, batch_size: int, steps: int, seed: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield the batches of a run: each epoch in an order of its own, what is left at its end left out."""
    count = len(data.x_train)
    size = min(batch_size, count)
    whole = [slice(start, stop) for start, stop in ranges(count, size) if stop - start == size]
    orders = (np.random.default_rng([seed, epoch]).permutation(count) for epoch in itertools.count())
    for chosen in itertools.islice((order[batch] for order in orders for batch in whole), steps):
        yield data.x_train[chosen], data.y_train[chosen]


def train(model: Model, data: Data, recipe: Recipe, seed: int, watch: Watch, probe: Probe | None = None) -> Trained:
    """Train and evaluate; a run that diverges is a result, not an error.

    Not `Trainer.fit`: runs are compared at equal numbers of steps, whatever is left of an epoch, and are measured
    between the steps.

    Parameters
    ----------
    model : Model
        Its parameters are changed.
    data : Data
    recipe : Recipe
    seed : int
        Of the order of the batches: a net and its twin see the same ones.
    watch : Watch
        Told of every step.
    probe : callable, optional
        `probe(step, trainer)` before each step and once after the last, to measure.
    """
    optimizer = SGD(recipe.learning_rate, momentum=recipe.momentum)
    trainer = Trainer(model, SoftmaxCrossEntropy(), optimizer)
    losses: list[float] = []
    with np.errstate(all="ignore"):  # overflow is what some of the runs are about
        try:
            for xb, yb in batches(data, recipe.batch_size, recipe.steps, seed):
                if probe is not None:
                    probe(len(losses), trainer)
                losses.append(trainer.step(xb, yb))
                watch.step()
        except NonFiniteLossError:
            watch.step(recipe.steps - len(losses))
        if probe is not None:
            probe(len(losses), trainer)
        measured = trainer.evaluate(data.x_test, data.y_test)
    broke_off = len(losses) < recipe.steps
    last = losses[-max(recipe.steps // 10, 1) :]
    final = None if broke_off else finite(np.mean(last))
    return Trained(
        outcome=classify(final, measured["accuracy"], data.chance_loss),
        steps=len(losses),
        final_training_loss=final,
        test_loss=finite(measured["loss"]),
        test_accuracy=float(measured["accuracy"]),
        training_loss=curve(losses),
    )


def classify(final_training_loss: float | None, test_accuracy: float, chance_loss: float) -> str:
    """Return the outcome of a run in one word: a key of `OUTCOMES`."""
    if final_training_loss is None or final_training_loss > DIVERGED_LOSS_FACTOR * chance_loss:
        return "diverged"
    if final_training_loss > CHANCE_LOSS_FRACTION * chance_loss:
        return "chance"
    return "trained" if test_accuracy >= TRAINED_ACCURACY else "partly"


def curve(losses: list[float], points: int = 30) -> list[list[float | None]]:
    """Return about `points` entries [step, mean loss since the entry before]."""
    ends = sorted({round(part * len(losses) / points) for part in range(1, points + 1)} - {0})
    starts = [0, *ends[:-1]]
    return [[end, finite(np.mean(losses[start:end]))] for start, end in zip(starts, ends, strict=True)]


def finite(value: Any) -> float | None:
    """Return a float, or None for NaN and infinity, which JSON does not know."""
    number = float(value)
    return number if math.isfinite(number) else None
