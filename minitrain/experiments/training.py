"""One training run of an experiment: fixed steps, fixed batches, what came of it in one word and in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.experiments.data import Data
from minitrain.experiments.watch import Watch
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.optimizers import SGD
from minitrain.schedules import Schedule
from minitrain.training.trainer import NonFiniteLossError, Trainer

__all__ = ["OUTCOMES", "Recipe", "batches", "classify", "finite", "train"]

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


def batches(data: Data, batch_size: int, steps: int, seed: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield the batches of a run: each epoch in an order of its own, what is left at its end left out."""
    count = len(data.x_train)
    size = min(batch_size, count)
    starts = range(0, count - size + 1, size)
    done = epoch = 0
    while done < steps:
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for start in starts[: steps - done]:
            chosen = order[start : start + size]
            yield data.x_train[chosen], data.y_train[chosen]
        done += len(starts)
        epoch += 1


def train(
    model: Model, data: Data, recipe: Recipe, seed: int, watch: Watch, probe: Probe | None = None
) -> dict[str, Any]:
    """Train and evaluate; a run that diverges is a result, not an error.

    Parameters
    ----------
    model : Model
        Its parameters are changed.
    data : Data
    recipe : Recipe
    seed : int
        Of the order of the batches: with and without batch norm a net sees the same ones.
    watch : Watch
        Told of every step.
    probe : callable, optional
        `probe(step, trainer)` before each step and once after the last, to measure.

    Returns
    -------
    dict
        "outcome" (see `OUTCOMES`), "steps" made, "final_training_loss" (mean over the last tenth of the steps; None
        where the run broke off), "test_loss", "test_accuracy", and "training_loss", a list of [step, mean loss
        since the entry before].
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
    return {
        "outcome": classify(final, measured["accuracy"], data.chance_loss),
        "steps": len(losses),
        "final_training_loss": final,
        "test_loss": finite(measured["loss"]),
        "test_accuracy": finite(measured["accuracy"]),
        "training_loss": curve(losses),
    }


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
