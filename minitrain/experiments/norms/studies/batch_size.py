"""Which norm stands small batches (Wu & He 2018, figure 1 and table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import NetSettings, error_of, net, renormalized, shuffled, train
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import percent

__all__ = ["BATCH_SIZE", "BatchSizeSettings"]

NORMS = {
    "batch": "batch norm",
    "renorm": "batch renorm",
    "group": "group norm",
    "layer": "layer norm",
    "instance": "instance norm",
    "filter_response": "filter response norm",
}
SAME = 0.01  # errors closer than this are called about the same


@dataclass(frozen=True)
class BatchSizeSettings(NetSettings):
    """All batch sizes see the same number of images; the rate falls with the batch size."""

    batch_sizes: tuple[int, ...] = (32, 16, 8, 4, 2)
    images: int = 5_000
    learning_rate: float = 0.1  # at the largest batch size

    def steps(self, batch_size: int) -> int:
        """Return the updates of a run."""
        return max(self.images // batch_size, 1)

    def work(self) -> float:
        return float(self.depth * len(NORMS) * self.seeds * sum(map(self.steps, self.batch_sizes)))


def run(data: Data, settings: BatchSizeSettings, seed: int, watch: Watch) -> Lines:
    """Train a net with each norm at each batch size."""

    def error(case: tuple[str, int, int]) -> float:
        norm, size, number = case
        steps, start = settings.steps(size), seed + number
        model = net(settings, data, renormalized(steps) if norm == "renorm" else norm, start)
        rate = settings.learning_rate * size / max(settings.batch_sizes)
        trainer = train(model, shuffled(data, size, start), steps, rate, watch, settings.depth)
        return error_of(trainer, data.x_test, data.y_test)

    cases = [(norm, size, k) for norm in NORMS for size in settings.batch_sizes for k in range(settings.seeds)]
    found = dict(zip(cases, in_threads(error, cases, watch), strict=True))
    sizes = [float(size) for size in settings.batch_sizes]
    return Lines([
        Line("", name, sizes, [[found[norm, s, k] for k in range(settings.seeds)] for s in settings.batch_sizes])
        for norm, name in NORMS.items()
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say what small batches cost each norm."""
    batch, group = result.of("batch norm"), result.of("group norm")
    large, small = batch.values[0], batch.values[-1]
    costs = {line.name: line.at(small) - line.at(large) for line in result.lines}
    best = min(result.lines, key=lambda line: line.at(small))
    sentences = [
        f"From batches of {large:g} to batches of {small:g} the error of batch norm goes from "
        f"{percent(batch.at(large))} to {percent(batch.at(small))}, that of group norm from {percent(group.at(large))} "
        f"to {percent(group.at(small))}."
    ]
    if costs["batch norm"] > costs["group norm"] + SAME:
        sentences.append("Batch norm needs the batch and group norm does not, as Wu & He 2018 found.")
    else:
        sentences.append("Here small batches cost batch norm no more than group norm: not what Wu & He 2018 found.")
    gained = batch.at(small) - result.of("batch renorm").at(small)
    sentences.append(
        f"Renormalization takes {percent(gained)} of the images off that."
        if gained > SAME
        else "Renormalization does not help there."
    )
    sentences.append(f"The lowest error at {small:g} is that of {best.name}, {percent(best.at(small))}.")
    return " ".join(sentences)


def rows(result: Lines) -> list[Row]:
    """Return the errors at both ends."""
    batch = result.of("batch norm")
    ends = batch.values[0], batch.values[-1]
    return [
        (
            f"test error at batch size {ends[0]:g}, {ends[1]:g}: {line.name}",
            ", ".join(percent(line.at(e)) for e in ends),
        )
        for line in result.lines
    ]


def choices(settings: BatchSizeSettings) -> list[str]:
    """Return how batch sizes are compared."""
    return [
        f"Batch size: {settings.images:,} images at each, so that small batches make more updates, each at a rate in "
        "proportion to the batch size, as in the paper. Group norm has groups of 8 channels; renormalization's limits "
        "grow to r = 3 and d = 5 in the second quarter of a training."
    ]


BATCH_SIZE: Experiment[Any, Any] = Experiment(
    name="batch_size",
    title="batch size",
    full=BatchSizeSettings(),
    quick=BatchSizeSettings(seeds=1, images=4_000, batch_sizes=(32, 8, 2)),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "batch_size",
            "Batch size",
            "One net with six norms. Marks are means, bands the range over the seeds.",
            drawing("images in a batch", reverse=True),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
