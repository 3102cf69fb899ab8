"""Who compiles what: a locked file for each kernel that a process is compiling, so that the others wait for it.

Nothing of Numba. Where files cannot be locked (Windows, some network folders) each process compiles for itself.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["begin", "release"]

PATIENCE = 60.0  # seconds to wait for another process: longer than any kernel takes to compile

_held: dict[Path, int] = {}  # files that say what this process compiles, and their descriptors


def begin(path: Path, on_busy: Callable[[], None]) -> bool:
    """Say that this process compiles what belongs at `path`; first wait until no other process does.

    `on_busy` is called before each wait, and may raise to give up. False if nothing could be said. The system takes
    the lock from a process that ends in whatever way.
    """
    release()  # Numba compiles one function at a time: what is still held was given up
    if fcntl is None:
        return False
    lock_path = path.with_suffix(".lock")
    try:
        lock = os.open(lock_path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        return False
    started = time.monotonic()
    try:
        while time.monotonic() - started < PATIENCE:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_busy()
                time.sleep(0.01)
            else:
                _held[lock_path] = lock
                return True
    except OSError:  # a file system without locks
        pass
    finally:
        if lock_path not in _held:
            os.close(lock)
    return False


def release() -> None:
    """Say that this process compiles nothing any more, done or failed."""
    while _held:
        lock_path, lock = _held.popitem()
        with contextlib.suppress(OSError):
            os.unlink(lock_path)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing would not do while a forked child has it open too
        os.close(lock)


def _forget_in_child() -> None:
    """What the parent was compiling is the parent's: close, but leave file and lock."""
    while _held:
        os.close(_held.popitem()[1])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
