"""Compile in other processes what is going to be called soon: Numba compiles one function at a time in a process.

`offered` says what is going to be called. If something must be compiled then, so that nothing of this happens once the
cache is filled, other interpreters call the same functions, only that kernels are compiled there and not run. What
they have compiled, this process finds in the cache. They are a help and no more: where they cannot start or fail, this
process compiles for itself.

`NBNORM_COMPILE_PROCESSES` is the number of them: by default one less than there are cores, at most three.
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

try:
    import fcntl
except ImportError:  # Windows, where processes cannot agree on who compiles what: `start` is not called
    fcntl = None  # type: ignore[assignment]

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

_offer: tuple[Any, ...] | None = None
_helpers: list[subprocess.Popen[bytes]] = []
_useful = 0
_inside = False
_is_helper = False


class BeingCompiledError(Exception):
    """Another process compiles this kernel just now: a helper has something else to do."""


@contextlib.contextmanager
def offered(calls: Calls, *args: Any, helpers: int = MOST) -> Iterator[None]:
    """Within the block, the first kernel that must be compiled makes other processes call what `calls(*args)` returns.

    `calls` is a function of a module, `args` can be pickled; otherwise nothing happens. A block within a block offers
    nothing: the outer one knows more. More processes than `helpers` would have nothing to do.
    """
    global _offer, _inside, _useful
    if _inside:
        yield
        return
    _offer, _inside, _useful = (calls, *args), True, helpers
    try:
        yield
    finally:
        _offer, _inside = None, False


def start(folder: Path) -> None:
    """Start helpers for what is offered: this process is about to compile for the cache in `folder`.

    One process at a time has helpers. They keep open what tells the others: the system notices when they have ended.
    """
    global _offer
    offer, _offer = _offer, None
    count = min(_how_many(), _useful) if offer else 0
    if count == 0:
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
    from nbnorm.jit import dispatch

    is_python = "python" in os.path.basename(sys.executable or "").lower() and not getattr(sys, "frozen", False)
    if _is_helper or not is_python or dispatch.runs_serially():
        return 0
    chosen = os.environ.get(VARIABLE, "")
    if chosen.isdecimal():
        return int(chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, MOST)


@atexit.register
def _stop() -> None:
    for helper in _helpers:
        if helper.poll() is None:
            helper.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(1.0)


# ------------------------------------------------------------------------------------------------- in a helper


def meet() -> None:
    """Another process compiles what this one was about to: a helper leaves it to that one."""
    if _is_helper:
        raise BeingCompiledError


def help_others(offer: tuple[Any, ...]) -> None:
    """Compile the kernels of all calls, the last first: the process that is waiting began with the first."""
    global _is_helper
    _is_helper = True
    _compile_only()
    calls, *args = offer
    left = list(calls(*args))
    while left:
        left = [call for call in reversed(left) if not _done(call)][::-1]
        time.sleep(0.02)


def _done(call: Callable[[], Any]) -> bool:
    try:
        call()
    except BeingCompiledError:
        return False
    except Exception:  # nothing was computed, so something may be missing
        return True
    return True


def _compile_only() -> None:
    """Make kernels do nothing but compile themselves when they are called, in the form that would run."""
    from nbnorm.jit import SERIAL_WORK, Kernel

    def only_compile(dispatcher: Any) -> Callable[..., None]:
        def run(*args: Any) -> None:
            dispatcher.compile(tuple(dispatcher.typeof_pyval(value) for value in args))

        return run

    def for_work(kernel: Kernel, elements: int) -> Callable[..., Any]:
        return only_compile(kernel.serial) if elements < SERIAL_WORK else kernel

    Kernel.__call__ = lambda kernel, *args: only_compile(kernel.parallel)(*args)  # type: ignore[method-assign]
    Kernel.for_work = for_work  # type: ignore[method-assign,assignment]
