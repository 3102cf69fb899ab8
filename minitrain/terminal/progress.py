"""What `fit` shows: a live bar on a terminal, a line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Protocol

from minitrain.terminal.live import Bar, is_live
from minitrain.terminal.output import Output

__all__ = ["Lines", "LiveBar", "Progress", "Sums", "make_progress"]

REFRESH_SECONDS = 0.1
OUTPUT = "the progress of training"


class Sums(Protocol):
    """What is known of an epoch before its end."""

    samples: int

    def means(self) -> dict[str, float]:
        """Return loss and metrics, means over the samples so far."""


class Progress:
    """Shows nothing; base of those that do. A context: `with progress:` around the training."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back as it was."""

    def begin(self, epoch: int, epochs: int, samples: int | None) -> None:
        """Take the number of an epoch, of the last one, and of the samples to come, where that is known."""

    def advance(self, tally: Sums) -> None:
        """Take the sums of the epoch so far, after each step."""

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take what the history got."""


class Lines(Progress):
    """Prints a line for each epoch."""

    def __init__(self) -> None:
        self._output = Output(OUTPUT)

    def begin(self, epoch: int, epochs: int, samples: int | None) -> None:
        self._epochs = epochs

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        self._output.attempt(lambda: print(describe_epoch(epoch, self._epochs, values), flush=True))


class LiveBar(Progress):
    """Draws a bar with loss, accuracy, images per second and the time left, and leaves a line for each epoch."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

        numbers = TextColumn("{task.percentage:>3.0f}%  {task.fields[numbers]}")
        columns = TextColumn("{task.description}"), BarColumn(), numbers, TimeRemainingColumn()
        self._bar = Bar(*columns, seconds=REFRESH_SECONDS)
        self._output = Output(OUTPUT)

    def __enter__(self) -> Progress:
        self._output.attempt(self._bar.__enter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.attempt(lambda: self._bar.__exit__(kind, error, trace))

    def begin(self, epoch: int, epochs: int, samples: int | None) -> None:
        self._epochs, self._began = epochs, time.perf_counter()
        self._output.attempt(lambda: self._bar.begin(f"epoch {epoch}/{epochs}", samples, numbers=""))

    def advance(self, tally: Sums) -> None:
        if not self._output.failed and self._bar.due():
            speed = tally.samples / (time.perf_counter() - self._began)
            numbers = describe_values({**tally.means(), "images_per_second": speed})
            self._output.attempt(lambda: self._bar.draw(completed=tally.samples, numbers=numbers))

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        self._output.attempt(lambda: self._bar.end(describe_epoch(epoch, self._epochs, values)))


def make_progress(verbose: bool | Literal["auto"]) -> Progress:
    """Return what shows the progress: see `Trainer.fit`."""
    if verbose not in (True, False, "auto"):
        raise ValueError(f"verbose: expected 'auto', True or False, got {verbose!r}")
    if not verbose:
        return Progress()
    return LiveBar() if verbose == "auto" and is_live() else Lines()


def describe_epoch(epoch: int, epochs: int, values: Mapping[str, float]) -> str:
    """Return the line of a finished epoch."""
    return f"epoch {epoch:{len(str(epochs))}}/{epochs}  {describe_values(values)}  {values['seconds']:.1f} s"


def describe_values(values: Mapping[str, float]) -> str:
    """Return losses and metrics with their names, and the speed."""
    parts = [
        f"{name} {value:.4f}"
        for name, value in values.items()
        if name not in ("learning_rate", "seconds", "images_per_second")
    ]
    return "  ".join([*parts, f"{values['images_per_second']:,.0f} images/s"])
