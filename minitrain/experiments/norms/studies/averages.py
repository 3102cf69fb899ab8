"""How running statistics are averaged, at a batch size of 4: momentum, without bias, by what is significant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import NetSettings, error_of, net, shuffled, train
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import join, percent
from minitrain.layers import BatchNorm

__all__ = ["AVERAGES", "AverageSettings"]

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without bias": {"debias": True},
    "significant moves": {"threshold": 3.0},
}
EXACT = "precise"
SAME = 0.01  # errors closer than this are called about the same


@dataclass(frozen=True)
class AverageSettings(NetSettings):
    """Averages that remember about so many batches: momentum = 2 / (period + 1)."""

    periods: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    batch_size: int = 4
    steps: int = 600
    learning_rate: float = 0.02

    def work(self) -> float:
        return float(self.depth * self.seeds * len(FORMS) * len(self.periods) * self.steps)


def run(data: Data, settings: AverageSettings, seed: int, watch: Watch) -> Lines:
    """Train with each average: the weights are the same."""

    def errors(case: tuple[str, float, int]) -> tuple[float, float]:
        form, period, number = case
        start = seed + number
        model = net(settings, data, lambda: BatchNorm(period=period, **FORMS[form]), start)
        drawn = shuffled(data, settings.batch_size, start)
        trainer = train(model, drawn, settings.steps, settings.learning_rate, watch, settings.depth)
        running = error_of(trainer, data.x_test, data.y_test)
        if (form, period) != (next(iter(FORMS)), settings.periods[0]):
            return running, running
        trainer.calibrate(data.x_train)
        return running, error_of(trainer, data.x_test, data.y_test)

    numbers = range(settings.seeds)
    cases = [(form, period, k) for form in FORMS for period in settings.periods for k in numbers]
    found = dict(zip(cases, in_threads(errors, cases, watch), strict=True))
    periods = [float(period) for period in settings.periods]
    exact = [found[next(iter(FORMS)), settings.periods[0], k][1] for k in numbers]
    return Lines([
        *(Line("", form, periods, [[found[form, p, k][0] for k in numbers] for p in settings.periods])
          for form in FORMS),
        Line("", EXACT, periods, [exact] * len(periods)),
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say which period is best for each form, and what each form forgives."""
    plain, debiased, significant, exact = result.lines
    short, long = plain.values[0], plain.values[-1]
    best = [f"{percent(min(line.means))} at {_best(line):g} batches ({line.name})" for line in result.lines[:-1]]
    sentences = [
        f"The lowest errors are {join(best)}; with precise statistics it is {percent(exact.means[0])}.",
        f"Averages over {short:g} batches make {percent(plain.at(short))} errors, over {long:g} batches "
        f"{percent(plain.at(long))}.",
    ]
    if plain.at(long) - debiased.at(long) > SAME:
        sentences.append(
            f"Without the bias of what they started from, long averages make {percent(debiased.at(long))}: a training "
            "of a few hundred batches is over before they have forgotten it."
        )
    if plain.at(short) - significant.at(short) > SAME:
        sentences.append(
            f"To move by what noise cannot explain alone makes short averages better, {percent(significant.at(short))}."
        )
    elif significant.at(short) - plain.at(short) > SAME:
        sentences.append(
            f"To move by what noise cannot explain alone makes short averages worse, {percent(significant.at(short))}."
        )
    return " ".join(sentences)


def _best(line: Line) -> float:
    return min(line.values, key=line.at)


def rows(result: Lines) -> list[Row]:
    """Return the errors over all periods."""
    return [
        (
            f"test error at batch size 4, averages over {line.values[0]:g} to {line.values[-1]:g} batches: {line.name}",
            f"{percent(min(line.means))} to {percent(max(line.means))}",
        )
        for line in result.lines
    ]


def choices(settings: AverageSettings) -> list[str]:
    """Return what differs between the lines."""
    return [
        f"Averages: batches of {settings.batch_size}, {settings.steps} of them; all lines have the same weights. "
        "Significant moves: beyond 3 standard errors in full, a tenth of the momentum for the rest."
    ]


AVERAGES: Experiment[Any, Any] = Experiment(
    name="averages",
    title="averages of statistics",
    full=AverageSettings(),
    quick=AverageSettings(seeds=1, steps=200, periods=(3.0, 30.0, 1000.0)),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "averages",
            "How running statistics are averaged",
            "One training with small batches, tested with running statistics of several memories.",
            drawing("period, batches"),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
