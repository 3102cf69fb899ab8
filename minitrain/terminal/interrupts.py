"""Ctrl-C, SIGTERM and SIGHUP that wait for the step under way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupt", "Stopped", "deferred_interrupt", "number_of"]

NOTICE = b"\nStopping after this step. Press Ctrl-C again to stop at once.\n"
# What ends a process unless it is handled: a batch system's or a shell's "stop", a terminal that was closed. Windows
# has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if name in dir(signal))


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C's that is to end the work as Ctrl-C does; its only argument is the number."""


def number_of(interrupt: KeyboardInterrupt) -> int:
    """Return the number of the signal: a shell calls the exit code of what it ended 128 more than that."""
    return int(interrupt.args[0]) if isinstance(interrupt, Stopped) else int(signal.SIGINT)


class Interrupt:
    """Which signal asked for an end, if one did."""

    requested: int | None = None

    def check(self) -> None:
        """Raise KeyboardInterrupt if an end was asked for: called where stopping leaves everything whole."""
        if self.requested is not None:
            raise _exception(self.requested)


@contextlib.contextmanager
def deferred_interrupt(announce: bool) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP in the block into a request that it looks at; the second one raises.

    Python's own handler raises KeyboardInterrupt between any two bytecodes: between the update of running statistics
    and that of the parameters, too. Handlers other than Python's own are left in place, and so is what is ignored (as
    under nohup), and everything in threads other than the main one, where Python runs no handlers.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested is not None:
            raise _exception(number)
        interrupt.requested = number
        if announce and number == signal.SIGINT:
            with contextlib.suppress(OSError):
                os.write(2, NOTICE)  # print is not safe here: it may be what was interrupted

    own: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(ENDING, signal.SIG_DFL)}
    former = {number: handler for number, handler in own.items() if signal.getsignal(number) is handler}
    try:
        for number in former:
            signal.signal(number, handle)
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)
