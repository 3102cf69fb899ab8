"""Calls without arguments: kernels bound to their arrays."""

from collections.abc import Callable

__all__ = ["Call", "in_order"]

Call = Callable[[], None]


def in_order(*calls: Call | None) -> Call:
    """Return a call that makes all of these, one after the other; None is nothing to do."""
    wanted = [call for call in calls if call is not None]
    if len(wanted) == 1:
        return wanted[0]

    def run() -> None:
        for call in wanted:
            call()

    return run
