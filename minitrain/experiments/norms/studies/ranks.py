"""Statistics of a whole batch against those of each rank's part: the shape of Wu & He 2018, figure 1, for ranks."""

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
from minitrain.experiments.words import percent

__all__ = ["LOCAL", "RANKS", "SYNCHRONIZED", "RankSettings"]

SYNCHRONIZED, LOCAL = "synchronized statistics", "local statistics"
SAME = 0.005  # errors closer than this are called about the same


@dataclass(frozen=True)
class RankSettings(NetSettings):
    """Numbers of ranks, and of samples on each: all see the same number of images."""

    ranks: tuple[int, ...] = (2, 3, 4)
    samples: tuple[int, ...] = (4, 3, 2)
    images: int = 1_000  # few: it is learning that local statistics of few samples slow down most
    learning_rate: float = 0.1  # of a batch of 32, in proportion to its size

    def steps(self, ranks: int, samples: int) -> int:
        """Return the updates of a run."""
        return max(self.images // (ranks * samples), 1)

    def rate(self, ranks: int, samples: int) -> float:
        """Return the largest rate of a run."""
        return self.learning_rate * ranks * samples / 32

    def work(self) -> float:
        steps = sum(self.steps(ranks, samples) for ranks in self.ranks for samples in self.samples)
        return float(2 * self.depth * self.seeds * steps)


def run(data: Data, settings: RankSettings, seed: int, watch: Watch) -> Lines:
    """Train a net by both statistics for each number of ranks and of samples."""

    def error(case: tuple[str, int, int, int]) -> float:
        kind, ranks, samples, number = case
        start, steps = seed + number, settings.steps(ranks, samples)
        model, drawn = net(settings, data, "batch", start), shuffled(data, ranks * samples, start)
        rate, parts = settings.rate(ranks, samples), 1 if kind == SYNCHRONIZED else ranks
        trainer = train(model, drawn, steps, rate, watch, settings.depth, parts)
        return error_of(trainer, data.x_test, data.y_test)

    cases = [
        (kind, r, s, k)
        for r in settings.ranks
        for s in settings.samples
        for kind in (SYNCHRONIZED, LOCAL)
        for k in range(settings.seeds)
    ]
    found = dict(zip(cases, in_threads(error, cases, watch), strict=True))
    sizes = [float(samples) for samples in settings.samples]
    return Lines([
        Line(_panel(r), kind, sizes, [[found[kind, r, s, k] for k in range(settings.seeds)] for s in settings.samples])
        for r in settings.ranks
        for kind in (SYNCHRONIZED, LOCAL)
    ])  # fmt: skip


def _panel(ranks: int) -> str:
    return f"{ranks} ranks"


def about(result: Lines) -> str:
    """Say what statistics of few samples cost, and what synchronizing them gives back."""
    first = result.lines[0].values
    most, fewest = max(first), min(first)
    sentences = [
        f"On {panel} of {fewest:g} samples the net makes {percent(_at(result, SYNCHRONIZED, panel, fewest))} errors "
        f"with the statistics of all and {percent(_at(result, LOCAL, panel, fewest))} with those of each rank; of "
        f"{most:g} samples {percent(_at(result, SYNCHRONIZED, panel, most))} and "
        f"{percent(_at(result, LOCAL, panel, most))}."
        for panel in result.panels
    ]
    gains = [_at(result, LOCAL, p, fewest) - _at(result, SYNCHRONIZED, p, fewest) for p in result.panels]
    if min(gains) > SAME:
        sentences.append(
            "Local statistics are those of a small batch however many ranks there are: synchronizing gives back what "
            "Wu & He 2018 found batch norm to lose."
        )
    elif max(gains) > SAME:
        sentences.append(f"Synchronizing helps on {result.panels[gains.index(max(gains))]} most, and not on all here.")
    else:
        sentences.append("Synchronizing makes no difference here: not what Wu & He 2018 lets one expect.")
    return " ".join(sentences)


def _at(result: Lines, kind: str, panel: str, samples: float) -> float:
    return result.of(kind, panel).at(samples)


def rows(result: Lines) -> list[Row]:
    """Return the errors with the fewest samples on a rank."""
    fewest = min(result.lines[0].values)
    return [
        (
            f"test error on {panel} of {fewest:g} samples, synchronized; local",
            "; ".join(percent(_at(result, kind, panel, fewest)) for kind in (SYNCHRONIZED, LOCAL)),
        )
        for panel in result.panels
    ]


def choices(settings: RankSettings) -> list[str]:
    """Return how ranks are compared."""
    return [
        f"Ranks: {settings.images:,} images, at a rate in proportion to the whole batch. One process computes what "
        "ranks would: with local statistics each rank's samples are normalized by themselves, gradients are "
        "averaged, and the running statistics follow all samples of the batch, as `sync_batch_norm=False` does."
    ]


RANKS: Experiment[Any, Any] = Experiment(
    name="ranks",
    title="statistics of ranks",
    full=RankSettings(),
    quick=RankSettings(seeds=1, ranks=(2, 4), samples=(4, 2)),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "ranks",
            "Synchronized against local statistics",
            "One net with batch norm on several ranks, by statistics of the whole batch and of each rank's samples.",
            drawing("samples on a rank", reverse=True),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
