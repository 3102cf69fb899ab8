"""Numba's threads, and what a fork would leave locked.

A forked child has the thread that forked and no other. What another thread had locked stays locked in it for good, and
what it was changing stays half changed: so a fork waits until no thread compiles and none starts Numba's threads. Numba
and llvmlite do nothing about it themselves.
"""

import contextlib
import os
import threading
from typing import Any

import numba

from nbnorm.jit.internals import door
from nbnorm.jit.internals.quota import available_cores

__all__ = ["current_threads", "launch", "launched", "respect_quota", "set_threads"]

VARIABLE = "NUMBA_NUM_THREADS"
PATIENCE = 60.0  # seconds that a fork waits for another thread: longer than any kernel takes to compile

_forking = threading.RLock()  # held from before a fork until after it
_taken: list[Any] = []  # Numba's locks that are held meanwhile
_not_taken: list[Any] = []  # those that a thread would not give up


def launched() -> bool:
    """Whether Numba has started its threads; True where it does not say."""
    try:
        numba.threading_layer()
    except ValueError:  # what it promises to raise before
        return False
    except Exception as error:
        door.warn_once("threads", error)
    return True


def launch() -> str:
    """Start Numba's threads and return the threading layer: "omp", "tbb", "workqueue", or "" where none can be used.

    "workqueue", which needs the most care, where Numba does not say.
    """
    try:
        numba.get_num_threads()  # starts them
    except ValueError as error:  # no layer could be loaded
        door.warn_once("threads", error)
        return ""
    except Exception as error:
        door.warn_once("threads", error)
        return "workqueue"
    try:
        return str(numba.threading_layer())
    except Exception as error:
        door.warn_once("threads", error)
        return "workqueue"


def current_threads() -> int:
    """Return how many threads the parallel kernels of this Python thread run on; 1 where Numba does not say."""
    try:
        return int(numba.get_num_threads())
    except Exception as error:
        door.warn_once("threads", error)
        return 1


def set_threads(count: int) -> None:
    """Let the parallel kernels of this Python thread run on so many threads, at most those that were started.

    Numba's own `set_num_threads` checks its argument in 5 to 15 microseconds; what it calls then takes half of one.
    """
    try:
        door.private("numba.np.ufunc.parallel", "_set_num_threads")(count)
    except Exception as error:
        door.warn_once("threads", error)
        with contextlib.suppress(Exception):
            numba.set_num_threads(count)


def respect_quota(cores: int | None = None) -> None:
    """Let Numba start no more threads than a container's quota keeps busy; it looks at the affinity alone.

    Done through `NUMBA_NUM_THREADS`, which Numba reads again whenever its variables change, and which child processes
    have, too. What a user set there is left alone, and so are threads that run already.
    """
    cores = available_cores() if cores is None else cores
    if VARIABLE in os.environ or cores >= numba.config.NUMBA_NUM_THREADS or launched():
        return
    try:
        owner = door.private("numba.np.ufunc", "parallel")
        door.private(owner, "NUM_THREADS")  # a copy of the number, taken when Numba was imported
        owner.NUM_THREADS = cores
        os.environ[VARIABLE] = str(cores)
        numba.config.reload_config()
    except Exception as error:
        door.warn_once("threads", error)


def _compiler_lock() -> Any:
    """Held while anything is compiled or loaded."""
    return door.private(door.private("numba.core.compiler_lock", "global_compiler_lock"), "_lock")


def _llvm_lock() -> Any:
    """Held during a call of LLVM, which somebody may make without Numba."""
    return door.private(door.private(door.private("llvmlite.binding.ffi", "lib"), "_lock"), "_lock")


def _launch_lock() -> Any:
    """Held while threads are started."""
    return door.private("numba.np.ufunc.parallel", "_backend_init_thread_lock")


def _before_fork() -> None:
    _forking.acquire()
    for find in (_compiler_lock, _llvm_lock, _launch_lock):  # in the order in which Numba takes them
        try:
            lock = find()
            (_taken if lock.acquire(timeout=PATIENCE) else _not_taken).append(lock)
        except Exception as error:
            door.warn_once("threads", error)


def _after_fork() -> None:
    while _taken:
        _taken.pop().release()
    _not_taken.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for lock in _not_taken:  # the best that is left: what it protects may be half changed
        with contextlib.suppress(Exception):
            door.private(lock, "_at_fork_reinit")()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)

respect_quota()
