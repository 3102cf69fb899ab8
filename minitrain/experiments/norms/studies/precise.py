"""Running statistics beside precise ones, epoch by epoch (Wu & Johnson 2021, section 3)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import MOMENTUM, NetSettings, error_of, net, shuffled
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import percent
from minitrain.layers import BatchNorm
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.optimizers import SGD
from minitrain.training.trainer import Trainer

__all__ = ["PRECISE", "PreciseSettings"]

PRECISE_LINE = "precise"
SAME = 0.01  # errors closer than this are called about the same


@dataclass(frozen=True)
class PreciseSettings(NetSettings):
    """One training at a constant, large rate; its weights are tested with several statistics after each epoch."""

    momenta: tuple[float, ...] = (0.1, 0.01)  # of running statistics
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 0.1

    def work(self) -> float:
        return float(self.depth * self.seeds * len(self.momenta) * self.epochs)  # an epoch counts as one step


def run(data: Data, settings: PreciseSettings, seed: int, watch: Watch) -> Lines:
    """Train with each momentum, which changes the running statistics alone, and calibrate copies."""
    steps = max(len(data.x_train) // settings.batch_size, 1)

    def errors(case: tuple[float, int]) -> list[tuple[float, float]]:
        momentum, number = case
        model = net(settings, data, lambda: BatchNorm(momentum=momentum), seed + number)
        trainer = Trainer(model, SoftmaxCrossEntropy(), SGD(settings.learning_rate, momentum=MOMENTUM))
        drawn, found = iter(shuffled(data, settings.batch_size, seed + number)), []
        watch.run(settings.depth)
        for _ in range(settings.epochs):
            for xb, yb in itertools.islice(drawn, steps):
                trainer.step(xb, yb)
            running = error_of(trainer, data.x_test, data.y_test)
            kept = model.flat_state.copy()
            trainer.calibrate(data.x_train)
            found.append((running, error_of(trainer, data.x_test, data.y_test)))
            np.copyto(model.flat_state, kept)
            watch.step()
        return found

    numbers = range(settings.seeds)
    cases = [(momentum, k) for momentum in settings.momenta for k in numbers]
    by_case = dict(zip(cases, in_threads(errors, cases, watch), strict=True))
    epochs = [float(epoch + 1) for epoch in range(settings.epochs)]
    lines = [
        Line(
            "", f"running, momentum {m:g}", epochs, [[by_case[m, k][e][0] for k in numbers] for e in range(len(epochs))]
        )
        for m in settings.momenta
    ]
    first = settings.momenta[0]
    exact = [[by_case[first, k][e][1] for k in numbers] for e in range(len(epochs))]
    return Lines([*lines, Line("", PRECISE_LINE, epochs, exact)])


def about(result: Lines) -> str:
    """Say how far running statistics are behind, and when."""
    *running, exact = result.lines
    sentences = [
        f"Over all epochs the mean error is {percent(float(np.mean(exact.means)))} with precise statistics, "
        + ", ".join(f"{percent(float(np.mean(line.means)))} with {line.name}" for line in running)
        + "."
    ]
    for line in running:
        gaps = [a - b for a, b in zip(line.means, exact.means, strict=True)]
        worst = int(np.argmax(gaps))
        if gaps[worst] > SAME:
            sentences.append(
                f"{line.name.capitalize()} is worst after epoch {worst + 1}: {percent(line.means[worst])} against "
                f"{percent(exact.means[worst])} with the same weights."
            )
        else:
            sentences.append(f"{line.name.capitalize()} is never worse by more than {percent(SAME)}.")
    spread = [float(np.std(np.diff(line.means))) for line in (*running, exact)]
    if spread[-1] < min(spread[:-1]):
        sentences.append("The curve of precise statistics is the smoothest, as Wu & Johnson 2021 found.")
    return " ".join(sentences)


def rows(result: Lines) -> list[Row]:
    """Return the mean errors."""
    return [
        (f"mean test error over the epochs: {line.name}", percent(float(np.mean(line.means)))) for line in result.lines
    ]


def choices(settings: PreciseSettings) -> list[str]:
    """Return why the rate is constant."""
    return [
        f"Precise statistics: a constant rate of {settings.learning_rate:g}, at which weights move so fast that "
        "averages lag behind; the weights of all lines are the same, as training does not read running statistics."
    ]


PRECISE: Experiment[Any, Any] = Experiment(
    name="precise",
    title="precise statistics",
    full=PreciseSettings(),
    quick=PreciseSettings(seeds=1, epochs=4),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "precise",
            "Running and precise statistics",
            "The errors of one training after each epoch, with running statistics and with those of the training set.",
            drawing("epoch", logarithmic=False),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
