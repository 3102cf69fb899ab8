"""What the person at the terminal sees of the experiments while they run."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from minitrain.terminal.live import Bar, is_live

__all__ = ["Cancelled", "LiveWatch", "PlainWatch", "Watch", "make_watch"]

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 15.0


class Cancelled(Exception):
    """Raised in the runs of other threads when one of them failed or Ctrl-C was pressed."""


class Watch:
    """Counts the work and shows nothing; base of those that show it. A context around all experiments.

    Work is counted in layers times steps, so that the time left holds for shallow and for deep nets. Runs may go on
    in several threads at a time.

    Parameters
    ----------
    total : float
        All the work there is.
    """

    def __init__(self, total: float) -> None:
        self.total = max(total, 1.0)
        self.done = 0.0
        self.name = ""
        self._runs = threading.local()  # the layers of each thread's run
        self._lock = threading.Lock()
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back as it was."""

    def experiment(self, name: str) -> None:
        """Begin an experiment."""
        self.name = name

    def run(self, layers: float) -> None:
        """Begin a training run of a net with so many layers."""
        self._runs.layers = layers

    def step(self, steps: int = 1) -> None:
        """Take steps that were made, or that a run that broke off will not make; Cancelled after `cancel`."""
        if self._cancelled:
            raise Cancelled
        with self._lock:
            self.done += steps * getattr(self._runs, "layers", 1.0)
            self.show()

    def cancel(self) -> None:
        """End the runs of all threads at their next step."""
        self._cancelled = True

    def show(self) -> None:
        """Draw, where enough time has passed."""


class PlainWatch(Watch):
    """Prints a line when an experiment begins and every fifteen seconds."""

    def __init__(self, total: float) -> None:
        super().__init__(total)
        self._began = self._shown = time.perf_counter()

    def experiment(self, name: str) -> None:
        super().experiment(name)
        self._line()

    def show(self) -> None:
        if time.perf_counter() - self._shown >= PLAIN_SECONDS:
            self._line()

    def _line(self) -> None:
        self._shown = time.perf_counter()
        passed = self._shown - self._began
        part = min(self.done / self.total, 1.0)
        left = f", about {passed / part - passed:.0f} s left" if part > 0.02 else ""
        print(f"[{passed:5.0f} s] {part:4.0%}  {self.name}{left}", flush=True)


class LiveWatch(Watch):
    """Draws a bar with the experiment's name, the part that is done and the time left."""

    def __init__(self, total: float) -> None:
        super().__init__(total)
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            seconds=LIVE_SECONDS,
            speed_estimate_period=120.0,
        )

    def __enter__(self) -> Self:
        self._bar.__enter__()
        self._bar.begin("", self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def experiment(self, name: str) -> None:
        super().experiment(name)
        self._bar.draw(description=name)

    def show(self) -> None:
        if self._bar.due():
            self._bar.draw(completed=self.done)


def make_watch(total: float, show: bool) -> Watch:
    """Return what shows the progress: a live bar on a terminal, lines elsewhere, nothing where `show` is False."""
    if not show:
        return Watch(total)
    return LiveWatch(total) if is_live() else PlainWatch(total)
