"""One at a time: what belongs to one call of a process, where waiting for another one would be no help."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["Exclusive"]


class Exclusive:
    """Lets one block in at a time, and refuses the others.

    What runs is kept for each process: a forked child has no part in what its parent's other threads do. To set a
    default is one operation of a dictionary, so that of two threads one is refused. A copy has nothing running.
    """

    def __init__(self) -> None:
        self._running: dict[int, object] = {}

    @contextlib.contextmanager
    def block(self, refusal: str) -> Iterator[None]:
        """Run a block, or raise RuntimeError with this message where one runs already."""
        this, process = object(), os.getpid()
        if self._running.setdefault(process, this) is not this:
            raise RuntimeError(refusal)
        try:
            yield
        finally:
            del self._running[process]

    def __bool__(self) -> bool:
        """Whether a block runs in this process."""
        return os.getpid() in self._running

    def __reduce__(self) -> tuple[Any, ...]:
        return Exclusive, ()
