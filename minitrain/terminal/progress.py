"""What `fit` shows: a live bar on a terminal, a line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Protocol

__all__ = ["Lines", "LiveBar", "Progress", "make_progress"]

REFRESH_SECONDS = 0.1  # drawing costs milliseconds: not after each step


class Sums(Protocol):
    """What an epoch has measured so far."""

    samples: int

    def means(self) -> dict[str, float]:
        """Return loss and metrics by their names."""


class Progress:
    """Shows nothing; base of those that do. A context: `with progress:` around the training."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back as it was."""

    def begin(self, epoch: int, epochs: int, samples: int) -> None:
        """Take the number of an epoch, of the last one, and of the samples to come."""

    def advance(self, tally: Sums) -> None:
        """Take the sums of the epoch so far, after each step."""

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take what the history got."""


class Lines(Progress):
    """Prints a line for each epoch."""

    def begin(self, epoch: int, epochs: int, samples: int) -> None:
        self._epochs = epochs

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        print(describe_epoch(epoch, self._epochs, values), flush=True)


class LiveBar(Progress):
    """Draws a bar with loss, accuracy, images per second and the time left, and leaves a line for each epoch."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        # Without its own refreshing thread: that would take turns with the training for Python's lock.
        self._bars: Any = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[numbers]}"),
            TimeRemainingColumn(),
            auto_refresh=False,
            transient=True,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, epoch: int, epochs: int, samples: int) -> None:
        self._epochs, self._began, self._drawn = epochs, time.perf_counter(), 0.0
        self._bar = self._bars.add_task(f"epoch {epoch}/{epochs}", total=samples, numbers="")
        self._bars.refresh()

    def advance(self, tally: Sums) -> None:
        now = time.perf_counter()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            numbers = {**tally.means(), "images_per_second": tally.samples / (now - self._began)}
            self._bars.update(self._bar, completed=tally.samples, numbers=describe_values(numbers), refresh=True)

    def end(self, epoch: int, values: Mapping[str, float]) -> None:
        self._bars.remove_task(self._bar)
        self._bars.refresh()
        self._bars.console.print(describe_epoch(epoch, self._epochs, values), highlight=False, soft_wrap=True)


def make_progress(verbose: bool | Literal["auto"]) -> Progress:
    """Return what shows the progress: see `Trainer.fit`."""
    if verbose not in (True, False, "auto"):
        raise ValueError(f"verbose: expected 'auto', True or False, got {verbose!r}")
    if not verbose:
        return Progress()
    live = verbose == "auto" and sys.stdout is not None and sys.stdout.isatty()
    return LiveBar() if live and importlib.util.find_spec("rich") is not None else Lines()


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
