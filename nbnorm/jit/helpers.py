"""Compile in other processes what is going to be called soon: Numba compiles one function at a time in a process.

`offered` says what is going to be called. If something must be compiled then, so that nothing of this happens once the
cache is filled, other interpreters call the same functions, only that kernels are compiled there and not run. What
they have compiled, this process finds in the cache. They are a help and no more: where they cannot start or fail, this
process compiles for itself.

Only a program offers something: `minitrain.Trainer` and the commands do, no function of nbnorm does. How many processes
there are is said there; where it is not, `NBNORM_COMPILE_PROCESSES` says it, 0 for none. By default it is one less than
there are cores, at most three.
"""

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nbnorm.jit.dispatch import Kernel, hooks, runs_serially
from nbnorm.jit.internals.cache import BeingCompiledError
from nbnorm.jit.internals.quota import available_cores

try:
    import fcntl
except ImportError:  # Windows, where processes cannot agree on who compiles what: `_start` is not called
    fcntl = None  # type: ignore[assignment]

__all__ = ["VARIABLE", "help_others", "offered"]

# More processes than this wait for each other: a training step has few kernels that take long to compile.
MOST = 3
VARIABLE = "NBNORM_COMPILE_PROCESSES"
# The path is given on, so that the same packages are found, in whatever way this interpreter found them.
PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from nbnorm.jit import helpers
helpers.help_others(pickle.load(sys.stdin.buffer))
"""

Calls = Callable[..., Sequence[Callable[[], Any]]]

_offering = False  # within a block of `offered`
_helpers: list[subprocess.Popen[bytes]] = []


@contextlib.contextmanager
def offered(calls: Calls, *args: Any, processes: int | None = None) -> Iterator[None]:
    """Within the block, the first kernel that must be compiled makes other processes call what `calls(*args)` returns.

    `calls` is a function of a module, `args` can be pickled; otherwise nothing happens. A block within a block offers
    nothing: the outer one knows more.

    Parameters
    ----------
    processes : int, optional
        How many, 0 for none; by default the environment variable says it, or the number of cores.
    """
    global _offering
    if _offering:
        yield
        return

    def on_miss(folder: Path) -> None:
        hooks.on_miss = before
        _start((calls, *args), _how_many() if processes is None else processes, folder)

    before = hooks.on_miss
    _offering, hooks.on_miss = True, on_miss
    try:
        yield
    finally:
        _offering, hooks.on_miss = False, before


def _start(offer: tuple[Any, ...], count: int, folder: Path) -> None:
    """Start helpers for what is offered: this process is about to compile for the cache in `folder`.

    One process at a time has helpers. They keep open what tells the others: the system notices when they have ended.
    """
    is_python = "python" in os.path.basename(sys.executable or "").lower() and not getattr(sys, "frozen", False)
    if count == 0 or not is_python or runs_serially():
        return
    with contextlib.suppress(Exception):  # what cannot be pickled, no memory for a process: then without help
        text = pickle.dumps([path or os.getcwd() for path in sys.path]) + pickle.dumps(offer)
        with open(folder / "helpers.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for _ in range(count):
                _helpers.append(
                    subprocess.Popen(
                        [sys.executable, "-c", PROGRAM], env={**os.environ, VARIABLE: "0"}, stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(lock.fileno(),),
                    )
                )  # fmt: skip
        for helper in _helpers[-count:]:
            assert helper.stdin is not None
            with helper.stdin as target:
                target.write(text)


def _how_many() -> int:
    chosen = os.environ.get(VARIABLE, "")
    if chosen.isdecimal():
        return int(chosen)
    cores = available_cores()
    return min(cores - 1, MOST)


@atexit.register
def _stop() -> None:
    for helper in _helpers:
        if helper.poll() is None:
            helper.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.clear)  # they are the parent's to stop


# ------------------------------------------------------------------------------------------------- in a helper


def help_others(offer: tuple[Any, ...]) -> None:
    """Compile the kernels of all calls, the last first: the process that is waiting began with the first.

    What another process is compiling just now is left to it.
    """
    hooks.on_busy = _leave
    Kernel.only_compile()
    calls, *args = offer
    left = list(calls(*args))
    while left:
        left = [call for call in reversed(left) if not _done(call)][::-1]
        time.sleep(0.02)


def _leave() -> None:
    raise BeingCompiledError


def _done(call: Callable[[], Any]) -> bool:
    try:
        call()
    except BeingCompiledError:
        return False
    except Exception:  # nothing was computed, so something may be missing
        return True
    return True
