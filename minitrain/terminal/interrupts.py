"""Ctrl-C that waits for the step under way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]

NOTICE = b"\nStopping after this step. Press Ctrl-C again to stop at once.\n"


class Interrupt:
    """Whether Ctrl-C was pressed."""

    requested = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed: called where stopping leaves everything whole."""
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupt(announce: bool) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C within the block into a request that the block looks at; the second one raises.

    Python's own handler raises KeyboardInterrupt between any two bytecodes: between the update of running statistics
    and that of the parameters, too. Handlers other than Python's own are left in place, and so is everything in
    threads other than the main one, where Python runs no handlers.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.default_int_handler:
        yield interrupt
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            signal.default_int_handler(number, frame)
        interrupt.requested = True
        if announce:
            with contextlib.suppress(OSError):
                os.write(2, NOTICE)  # print is not safe here: it may be what was interrupted

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, former)
