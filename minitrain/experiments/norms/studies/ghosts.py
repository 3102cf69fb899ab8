"""Large batches that are normalized in ghosts (Hoffer et al. 2017, table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import NetSettings, error_of, net, shuffled, train
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import percent
from minitrain.layers import BatchNorm

__all__ = ["GHOSTS", "GhostSettings"]

SHORT, LONG, SMALL = "large batch, as many images", "large batch, as many updates", "small batch"
SAME = 0.005  # errors closer than this are called about the same


@dataclass(frozen=True)
class GhostSettings(NetSettings):
    """A small batch, and a large one in ghosts of several sizes; the largest is the batch itself."""

    small_batch: int = 64
    large_batch: int = 1024
    ghosts: tuple[int, ...] = (16, 64, 256, 1024)
    steps: int = 120  # of the small batch, and of the large one with as many updates
    learning_rate: float = 0.05  # of the small batch; grows with the square root of the batch size

    @property
    def short(self) -> int:
        """Updates of the large batch that see as many images as the small one."""
        return max(self.steps * self.small_batch // self.large_batch, 1)

    def work(self) -> float:
        ratio = self.large_batch / self.small_batch
        each = self.steps + len(self.ghosts) * (self.steps + self.short) * ratio
        return float(self.depth * self.seeds * each)


def run(data: Data, settings: GhostSettings, seed: int, watch: Watch) -> Lines:
    """Train with the small batch, and with the large one by each size of ghosts, twice as long as it may be."""
    ratio = settings.large_batch / settings.small_batch

    def error(case: tuple[str, int, int]) -> float:
        kind, ghost, number = case
        start = seed + number
        size = settings.small_batch if kind == SMALL else settings.large_batch
        steps = settings.short if kind == SHORT else settings.steps
        rate = settings.learning_rate * (size / settings.small_batch) ** 0.5
        norm = partial(BatchNorm, ghost_size=ghost) if ghost < size else "batch"
        layers = settings.depth * (1.0 if kind == SMALL else ratio)
        trainer = train(net(settings, data, norm, start), shuffled(data, size, start), steps, rate, watch, layers)
        return error_of(trainer, data.x_test, data.y_test)

    numbers = range(settings.seeds)
    cases = [(kind, ghost, k) for kind in (SHORT, LONG) for ghost in settings.ghosts for k in numbers]
    cases += [(SMALL, settings.small_batch, k) for k in numbers]
    found = dict(zip(cases, in_threads(error, cases, watch), strict=True))
    sizes = [float(ghost) for ghost in settings.ghosts]
    small = [found[SMALL, settings.small_batch, k] for k in numbers]
    return Lines([
        Line("", SMALL, sizes, [small] * len(sizes)),
        *(Line("", kind, sizes, [[found[kind, g, k] for k in numbers] for g in settings.ghosts])
          for kind in (SHORT, LONG)),
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say what ghosts give, and what more updates do."""
    small, short, long = (result.of(name) for name in (SMALL, SHORT, LONG))
    whole = small.values[-1]
    best = min(long.values[:-1], key=long.at)
    sentences = [
        f"A batch of {whole:g} makes {percent(short.at(whole))} errors where it sees as many images as a small batch, "
        f"which makes {percent(small.at(whole))}, and {percent(long.at(whole))} after as many updates.",
        f"In ghosts of {best:g} images the same large batch makes {percent(short.at(best))} and "
        f"{percent(long.at(best))}.",
    ]
    if short.at(best) < short.at(whole) - SAME:
        sentences.append(
            "With few updates ghosts help, not least as the running statistics move for each of them in turn."
        )
    if long.at(best) < long.at(whole) - SAME:
        sentences.append("With as many updates ghosts help, as Hoffer et al. 2017 found.")
    else:
        sentences.append("With as many updates they make no difference here, unlike in Hoffer et al. 2017.")
    if short.at(whole) > long.at(whole) + SAME:
        sentences.append("Most of the gap is a want of updates, as they found, too.")
    return " ".join(sentences)


def rows(result: Lines) -> list[Row]:
    """Return the errors of the whole batch and of the best ghosts."""
    small, short, long = (result.of(name) for name in (SMALL, SHORT, LONG))
    whole, best = small.values[-1], min(long.values[:-1], key=long.at)
    return [
        ("test error of a small batch", percent(small.at(whole))),
        (f"of a batch of {whole:g}, as many images; as many updates", _two(short, long, whole)),
        (f"of the same in ghosts of {best:g}", _two(short, long, best)),
    ]


def _two(short: Line, long: Line, value: float) -> str:
    return f"{percent(short.at(value))}; {percent(long.at(value))}"


def choices(settings: GhostSettings) -> list[str]:
    """Return how batches are compared."""
    return [
        f"Ghosts: batches of {settings.large_batch:,} beside {settings.small_batch}, at a rate that grows with the "
        f"square root of the batch size. As many images are {settings.short} updates of the large batch for "
        f"{settings.steps} of the small one."
    ]


GHOSTS: Experiment[Any, Any] = Experiment(
    name="ghosts",
    title="ghosts of a large batch",
    full=GhostSettings(),
    quick=GhostSettings(seeds=1, steps=48, ghosts=(32, 1024)),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "ghosts",
            "Large batches in ghosts",
            "One net with batch norm over ghosts of a large batch; the largest ghost is the batch itself.",
            drawing("images in a ghost"),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
