"""The nets of the job, how they are trained, and how their errors are measured."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain import models
from minitrain.data.batch import GivenBatch
from minitrain.experiments.data import Data
from minitrain.experiments.experiment import ExperimentSettings
from minitrain.experiments.training import batches
from minitrain.experiments.watch import Watch
from minitrain.layers import BatchNorm, Renorm
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.optimizers import SGD
from minitrain.schedules import Cosine
from minitrain.training.diagnosis import NonFiniteLossError
from minitrain.training.trainer import Trainer

__all__ = ["STAGES", "NetSettings", "error_of", "few_classes", "net", "renormalized", "shuffled", "train"]

Array = npt.NDArray[Any]
Batches = Iterable[tuple[Array, Array]]
STAGES = 3
MOMENTUM = 0.9
L2 = 1e-4  # as usual for such nets (He et al. 2016)


@dataclass(frozen=True)
class NetSettings(ExperimentSettings):
    """The net of a study, and from how many seeds: convolutions in three stages, each twice as wide as the former."""

    depth: int = 8
    width: int = 16
    seeds: int = 3


def net(settings: NetSettings, data: Data, norm: Any, seed: int) -> Model:
    """Return a plain net of convolutions with a norm before each activation."""
    return models.plain(
        settings.depth,
        "conv",
        tuple(data.x_train.shape[1:]),
        data.classes,
        width=settings.width,
        stages=STAGES,
        norm=norm,
        seed=seed,
    )


def renormalized(steps: int) -> Callable[[], BatchNorm]:
    """Return what makes norms whose limits grow in the second quarter of a training, as Ioffe 2017 lets them."""
    return lambda: BatchNorm(renorm=Renorm(3.0, 5.0, start=steps // 4, ramp=steps // 4))


def train(
    model: Model, drawn: Batches, steps: int, learning_rate: float, watch: Watch, layers: float, parts: int = 1
) -> Trainer:
    """Return the trainer after so many steps of SGD at a rate that falls as a cosine; it may end early, at a NaN.

    Of several parts of a batch, each is normalized by itself.
    """
    optimizer = SGD(Cosine(learning_rate, steps), momentum=MOMENTUM, l2=L2)
    trainer = Trainer(model, SoftmaxCrossEntropy(), optimizer)
    watch.run(layers)
    with np.errstate(all="ignore"):
        for xb, yb in itertools.islice(drawn, steps):
            try:
                _update(trainer, xb, yb, parts)
            except NonFiniteLossError:
                watch.step(steps - trainer.steps)
                break
            watch.step()
    return trainer


def _update(trainer: Trainer, xb: Array, yb: Array, parts: int) -> None:
    if parts == 1:
        trainer.step(xb, yb)
        return
    pieces = zip(np.array_split(xb, parts), np.array_split(yb, parts), strict=True)
    trainer.learn_from([GivenBatch(trainer.model, trainer.objective, x, y) for x, y in pieces])


def error_of(trainer: Trainer, x: Array, y: Array) -> float:
    """Return the share of samples that are named wrongly; all of them, where outputs are not numbers."""
    with np.errstate(all="ignore"):
        measured = trainer.evaluate(x, y)
    return 1.0 - measured["accuracy"] if math.isfinite(measured["loss"]) else 1.0


def shuffled(data: Data, batch_size: int, seed: int) -> Batches:
    """Yield batches without end: each epoch in an order of its own, what is left at its end left out."""
    return batches(data, batch_size, sys.maxsize, seed)


def few_classes(data: Data, batch_size: int, classes: int, seed: int) -> Batches:
    """Yield batches without end, each of so many classes and as many samples of each of them as fit."""
    rng = np.random.default_rng([seed, classes])
    members = [np.flatnonzero(data.y_train == c) for c in range(data.classes)]
    while True:
        chosen = rng.choice(data.classes, classes, replace=False)
        counts = [len(part) for part in np.array_split(np.arange(batch_size), classes)]
        picked = np.concatenate(
            [rng.choice(members[c], count, replace=False) for c, count in zip(chosen, counts, strict=True)]
        )
        yield data.x_train[picked], data.y_train[picked]
