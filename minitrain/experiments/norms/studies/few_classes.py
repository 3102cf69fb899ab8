"""Batches whose images are alike, with and without renormalization (Ioffe 2017, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import NetSettings, error_of, few_classes, net, renormalized, train
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import percent

__all__ = ["FEW_CLASSES", "FewClassesSettings"]

NORMS = {"batch": "batch norm", "renorm": "batch renorm", "group": "group norm"}
SAME = 0.01  # errors closer than this are called about the same


@dataclass(frozen=True)
class FewClassesSettings(NetSettings):
    """Each batch has images of so many classes."""

    classes: tuple[int, ...] = (10, 5, 3, 2)
    batch_size: int = 30
    steps: int = 400
    learning_rate: float = 0.05

    def work(self) -> float:
        return float(self.depth * len(NORMS) * self.seeds * len(self.classes) * self.steps)


def run(data: Data, settings: FewClassesSettings, seed: int, watch: Watch) -> Lines:
    """Train a net with each norm on batches of fewer and fewer classes."""

    def error(case: tuple[str, int, int]) -> float:
        norm, classes, number = case
        start = seed + number
        model = net(settings, data, renormalized(settings.steps) if norm == "renorm" else norm, start)
        drawn = few_classes(data, settings.batch_size, classes, start)
        trainer = train(model, drawn, settings.steps, settings.learning_rate, watch, settings.depth)
        return error_of(trainer, data.x_test, data.y_test)

    cases = [(norm, count, k) for norm in NORMS for count in settings.classes for k in range(settings.seeds)]
    found = dict(zip(cases, in_threads(error, cases, watch), strict=True))
    counts = [float(count) for count in settings.classes]
    return Lines([
        Line("", name, counts, [[found[norm, c, k] for k in range(settings.seeds)] for c in settings.classes])
        for norm, name in NORMS.items()
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say what alike batches cost, and what renormalization gives back."""
    batch, renorm, group = (result.of(name) for name in NORMS.values())
    many, few = batch.values[0], batch.values[-1]
    sentences = [
        f"With {many:g} classes in each batch the errors are {percent(batch.at(many))} with batch norm, "
        f"{percent(renorm.at(many))} with renormalization and {percent(group.at(many))} with group norm; with {few:g} "
        f"they are {percent(batch.at(few))}, {percent(renorm.at(few))} and {percent(group.at(few))}."
    ]
    gained = batch.at(few) - renorm.at(few)
    if gained > SAME:
        sentences.append(
            "The net with batch norm gets used to statistics of few classes, which the running ones are not; "
            "renormalization trains it with the running ones, and helps, as Ioffe 2017 found."
        )
    else:
        sentences.append("Renormalization does not help here: not what Ioffe 2017 found.")
    if group.at(few) < min(batch.at(few), renorm.at(few)) - SAME:
        sentences.append("A norm without the batch stays better than both.")
    return " ".join(sentences)


def rows(result: Lines) -> list[Row]:
    """Return the errors at both ends."""
    many, few = result.lines[0].values[0], result.lines[0].values[-1]
    return [
        (
            f"test error with {many:g}, {few:g} classes in a batch: {line.name}",
            ", ".join(percent(line.at(each)) for each in (many, few)),
        )
        for line in result.lines
    ]


def choices(settings: FewClassesSettings) -> list[str]:
    """Return how batches are drawn."""
    return [
        f"Few classes: {settings.batch_size} images of classes drawn anew for each batch, as many of each; over a "
        "training all classes come equally often."
    ]


FEW_CLASSES: Experiment[Any, Any] = Experiment(
    name="few_classes",
    title="few classes in a batch",
    full=FewClassesSettings(),
    quick=FewClassesSettings(seeds=1, steps=200, classes=(10, 2)),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "few_classes",
            "Batches that are not independent",
            "One net with three norms, trained on batches of fewer and fewer classes.",
            drawing("classes in a batch", reverse=True),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
