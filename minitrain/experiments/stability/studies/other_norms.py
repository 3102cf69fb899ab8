"""Experiment e: deep plain nets with batch, layer and group norm beside each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minitrain import models
from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, ExperimentSettings, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.nets import STAGES, Kind
from minitrain.experiments.training import Recipe, in_threads, train
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import join, percent
from minitrain.layer import Layer
from minitrain.layers import GroupNorm
from minitrain.schedules import Cosine

__all__ = ["OTHER_NORMS", "OtherNormSettings"]

GROUPS = 4  # the convolutions have 8, 16 and 32 filters: groups of 2, 4 and 8
NORMS: dict[str, str | Callable[[], Layer]] = {
    "batch norm": "batch",
    "layer norm": "layer",
    "group norm": lambda: GroupNorm(GROUPS),
}
PANELS: dict[Kind, str] = {"dense": "dense, ReLU", "conv": "conv, ReLU"}
WIDTHS: dict[Kind, int] = {"dense": 64, "conv": 8}
CONV_WORK = 5.0  # a convolution takes about as long as this many dense layers
SAME = 0.02  # errors closer than this are called about the same


@dataclass(frozen=True)
class OtherNormSettings(ExperimentSettings):
    """The nets of the study of depth with ReLU, at one rate; all norms get the same steps."""

    depths: tuple[int, ...] = (20, 40)
    steps: int = 250
    learning_rate: float = 0.03
    momentum: float = 0.9
    batch_size: int = 32
    seeds: int = 2

    def work(self) -> float:
        return len(NORMS) * self.seeds * self.steps * sum(self.depths) * (1.0 + CONV_WORK)


def run(data: Data, settings: OtherNormSettings, seed: int, watch: Watch) -> Lines:
    """Train all nets."""

    def error(case: tuple[Kind, str, int, int]) -> float:
        kind, norm, depth, number = case
        model = models.plain(
            depth,
            kind,
            tuple(data.x_train.shape[1:]),
            data.classes,
            width=WIDTHS[kind],
            stages=STAGES if kind == "conv" else 1,
            norm=NORMS[norm],
            seed=seed + number,
        )
        watch.run(depth * (CONV_WORK if kind == "conv" else 1.0))
        rate = Cosine(settings.learning_rate, settings.steps)
        recipe = Recipe(settings.steps, rate, settings.momentum, settings.batch_size)
        return 1.0 - train(model, data, recipe, seed + number, watch).test_accuracy

    numbers = range(settings.seeds)
    cases = [(kind, norm, depth, k) for kind in PANELS for norm in NORMS for depth in settings.depths for k in numbers]
    found = dict(zip(cases, in_threads(error, cases, watch), strict=True))
    depths = [float(depth) for depth in settings.depths]
    return Lines([
        Line(PANELS[kind], norm, depths, [[found[kind, norm, depth, k] for k in numbers] for depth in settings.depths])
        for kind in PANELS for norm in NORMS
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say which norm the deepest nets are best trained with."""
    sentences = []
    for panel in result.panels:
        lines = [line for line in result.lines if line.panel == panel]
        deepest = lines[0].values[-1]
        errors = [f"{percent(line.at(deepest))} with {line.name}" for line in lines]
        best = min(lines, key=lambda line: line.at(deepest))
        close = [line.name for line in lines if line.at(deepest) <= best.at(deepest) + SAME]
        sentences.append(
            f"At {deepest:g} layers the test errors of {panel.replace(', ReLU', ' nets')} are {join(errors)}: "
            + (f"{best.name} is best." if len(close) == 1 else f"{join(close)} are about the same.")
        )
    return " ".join(sentences)


def rows(result: Lines) -> list[Row]:
    """Return the accuracies of the deepest nets."""
    found: list[Row] = []
    for panel in result.panels:
        lines = [line for line in result.lines if line.panel == panel]
        deepest = lines[0].values[-1]
        accuracies = ", ".join(percent(1.0 - line.at(deepest)) for line in lines)
        names = ", ".join(line.name.removesuffix(" norm") for line in lines)
        found.append((f"{deepest:g} layers, {panel}: test accuracy with {names} norm", "", accuracies))
    return found


def choices(settings: OtherNormSettings) -> list[str]:
    """Return how the nets are trained."""
    return [
        f"Other norms: the nets of the study of depth with ReLU, {settings.steps} steps at a rate of "
        f"{settings.learning_rate:g} that falls to zero along half a cosine, batches of {settings.batch_size}, "
        f"{settings.seeds} seeds. Layer norm is over all values of a sample, group norm over each of {GROUPS} groups."
    ]


OTHER_NORMS: Experiment[Any, Any] = Experiment(
    name="other_norms",
    title="other norms",
    full=OtherNormSettings(),
    quick=OtherNormSettings(depths=(20,), steps=200, seeds=1),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "other_norms",
            "Other norms",
            "Test errors against the number of layers with batch, layer and group norm; marks are means, bands the "
            "range over the seeds.",
            drawing("layers with weights"),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
