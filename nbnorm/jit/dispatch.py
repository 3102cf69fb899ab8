"""Compilation: the only place that configures Numba (flags, threads). See `internals` for what Numba does not promise.

`@kernel` makes a function with `prange` loops callable as a parallel kernel, `@device` makes a helper that kernels
call. Compilation is lazy, once for each combination of argument types, and kept on disk between processes.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numba
from numba import njit, prange

from nbnorm.jit.internals import linker, threads
from nbnorm.jit.internals.cache import Hooks, keep_on_disk
from nbnorm.jit.sources import Origin, origin

__all__ = ["SERIAL_WORK", "Kernel", "device", "hooks", "kernel", "prange", "runs_serially", "serially"]

# LLVM gets no licence at all: what the source says is what is computed, so that a loop gives the same bits in the
# parallel and in the serial form, vectorized or not. Reassociation would let the compiler choose the order of a sum
# anew wherever it inlines a loop; contraction (a * b + c in one rounding) whether a value is rounded once or twice;
# "nnan" and "ninf" would make a NaN disappear. Kernels that need vector sums or fused multiply-add spell them out with
# nbnorm.simd.
FASTMATH = False

# Below this many elements of work a parallel region costs more than it saves.
SERIAL_WORK = 48 * 1024

if numba.config.DISABLE_JIT:
    raise ImportError(
        "nbnorm is made of kernels that Numba compiles, and NUMBA_DISABLE_JIT=1 tells Numba to compile nothing: unset "
        "NUMBA_DISABLE_JIT (or numba.config.DISABLE_JIT) to use nbnorm and minitrain"
    )

hooks = Hooks()  # of the cache of all kernels


class _Mode:
    """How the kernels of this process run."""

    def __init__(self) -> None:
        self.layer: str | None = None  # Numba's threading layer; None: the threads are not started yet
        self.forked = False  # from a process with threads, which did not come along: OpenMP would abort
        self.serial_blocks = 0  # blocks of `serially` that are being run
        self.compiles_only = False
        self.changing = threading.Lock()
        # Python threads must not run parallel kernels at the same time on Numba's "workqueue" layer, which would abort
        # the process: there the lock is held during a parallel kernel.
        self.workqueue = threading.Lock()

    def is_simple(self) -> bool:
        """Whether calls run the parallel form and need look at nothing."""
        return self.layer not in (None, "", "workqueue") and not self.is_serial() and not self.compiles_only

    def is_serial(self) -> bool:
        return self.forked or self.serial_blocks > 0 or self.layer == ""


_mode = _Mode()
_is_simple = False  # what `_mode.is_simple()` says: one look at a global is all that a call pays


def _changed() -> None:
    global _is_simple
    _is_simple = _mode.is_simple()


def _after_fork_in_child() -> None:
    _mode.forked = _mode.forked or threads.launched()
    _mode.changing, _mode.workqueue = threading.Lock(), threading.Lock()
    _changed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def serially() -> Iterator[None]:
    """Run all kernels in their serial form within the block, in every Python thread; the bits are the same.

    For work that is divided among threads by itself, such as one small net in each: it saves compiling the parallel
    forms, and threads that wait for each other.
    """
    _count_serial_block(1)
    try:
        yield
    finally:
        _count_serial_block(-1)


def _count_serial_block(change: int) -> None:
    with _mode.changing:
        _mode.serial_blocks += change
        _changed()


def runs_serially() -> bool:
    """Whether all kernels run in their serial form now."""
    return _mode.is_serial()


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call. It is not cached by itself: its code ends up in the kernel's."""
    origin(function)
    return device_from_text(function)


def device_from_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that was made from text, which no file has: `origin` would take two of them for a file anew."""
    compiled: Callable[..., Any] = njit(
        nogil=True,
        error_model="numpy",
        fastmath=FASTMATH,
        forceinline=True,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(function)
    return compiled


class Kernel:
    """A compiled function with a parallel and a serial form that give the same bits.

    Calling it runs the parallel form, or the serial one where a parallel region is not safe (a forked child) or would
    wait (the "workqueue" threading layer is busy in another Python thread).
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.function = function
        self._origin = origin(function)

    @cached_property
    def parallel(self) -> Any:
        """The form whose `prange` loops run on all threads."""
        return _dispatcher(self.function, self._origin, parallel=True)

    @cached_property
    def serial(self) -> Any:
        """The form that runs on one thread."""
        return _dispatcher(self.function, self._origin, parallel=False)

    def __call__(self, *args: Any) -> Any:
        if _is_simple:
            return self.parallel(*args)
        return self._call_with_care(args)

    def _call_with_care(self, args: tuple[Any, ...]) -> Any:
        if _mode.compiles_only:
            return _compile_for(self.parallel, *args)
        if _mode.layer is None and not _mode.is_serial():
            _mode.layer = threads.launch()
            _changed()
        if _mode.is_serial():
            return self.serial(*args)
        if _mode.layer != "workqueue":
            return self.parallel(*args)
        lock = _mode.workqueue
        if not lock.acquire(blocking=False):
            return self.serial(*args)
        try:
            return self.parallel(*args)
        finally:
            lock.release()

    def for_work(self, elements: int) -> Callable[..., Any]:
        """Return the form that pays for this many elements of work: chosen by size, never by thread count."""
        if elements >= SERIAL_WORK:
            return self
        return partial(_compile_for, self.serial) if _mode.compiles_only else self.serial

    @staticmethod
    def only_compile() -> None:
        """From now on, calls of any kernel compile what they would run, and run nothing: for processes that help."""
        _mode.compiles_only = True
        _changed()

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__name__}>"


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a function whose `prange` loops run on all threads."""
    return Kernel(function)


def _dispatcher(function: Callable[..., Any], source: Origin, parallel: bool) -> Any:
    dispatcher = njit(
        parallel=parallel, nogil=True, error_model="numpy", fastmath=FASTMATH, no_cfunc_wrapper=True, **linker.options()
    )(function)
    keep_on_disk(dispatcher, source, "parallel" if parallel else "serial", linker.compiler_name, hooks)
    return dispatcher


def _compile_for(dispatcher: Any, *args: Any) -> None:
    dispatcher.compile(tuple(numba.typeof(value) for value in args))
