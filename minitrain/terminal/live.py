"""A bar on a terminal that is redrawn by the work it shows."""

from __future__ import annotations

import importlib.util
import sys
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["Bar", "is_live"]


def is_live() -> bool:
    """Return whether output goes to a terminal and rich, which draws there, is installed."""
    return sys.stdout is not None and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


class Bar:
    """One bar at a time, gone when its work is done. A context: around the work.

    Parameters
    ----------
    columns
        Of rich.progress.
    seconds : float
        Drawing costs milliseconds: `due` says no until so much time has passed.
    options
        Of rich.progress.Progress.
    """

    def __init__(self, *columns: Any, seconds: float, **options: Any) -> None:
        from rich.progress import Progress

        # Without its own refreshing thread: that would take turns with the training for Python's lock.
        self._bars = Progress(*columns, auto_refresh=False, transient=True, **options)
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, description: str, total: float | None, **fields: Any) -> None:
        """Show a bar of so much work; `fields` are what the columns show besides."""
        self._task = self._bars.add_task(description, total=total, **fields)
        self._drawn = 0.0
        self._bars.refresh()

    def due(self) -> bool:
        """Return whether it is time to draw, and count from now if it is."""
        now = time.perf_counter()
        if now - self._drawn < self._seconds:
            return False
        self._drawn = now
        return True

    def draw(self, **changes: Any) -> None:
        """Draw with a new `description`, work `completed` or field."""
        self._bars.update(self._task, refresh=True, **changes)

    def end(self, line: str) -> None:
        """Replace the bar by a line that stays."""
        self._bars.remove_task(self._task)
        self._bars.refresh()
        self._bars.console.print(line, highlight=False, soft_wrap=True)
