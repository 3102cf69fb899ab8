"""Compilation: the only place that configures Numba (flags, threads); `_cache` and `_compile` do the rest.

`@kernel` makes a function with `prange` loops callable as a parallel kernel, `@device` makes a helper that kernels
call. Compilation is lazy, once for each combination of argument types, and kept on disk between processes.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
from numba import njit, prange
from numba.np.ufunc import parallel

from nbnorm.jit.internals.cache import KernelCache

try:
    from nbnorm.jit.internals.linker import KernelCompiler
except (ImportError, AttributeError):  # a version of Numba with other internals
    from numba.core.compiler import Compiler as KernelCompiler  # type: ignore[no-redef]

__all__ = ["SERIAL_WORK", "Kernel", "device", "kernel", "prange", "serially"]

# LLVM gets no licence at all: what the source says is what is computed, so that a loop gives the same bits in the
# parallel and in the serial form, vectorized or not. Reassociation would let the compiler choose the order of a sum
# anew wherever it inlines a loop; contraction (a * b + c in one rounding) whether a value is rounded once or twice;
# "nnan" and "ninf" would make a NaN disappear. Kernels that need vector sums or fused multiply-add spell them out with
# nbnorm.simd.
FASTMATH = False

# Below this many elements of work a parallel region costs more than it saves.
SERIAL_WORK = 48 * 1024

# Python threads must not run parallel kernels at the same time on Numba's "workqueue" layer, which would abort the
# process: there the lock is held during a parallel kernel. None: the layer is not chosen yet.
_one_at_a_time: bool | None = None
_workqueue_lock = threading.Lock()
_forked = False  # this process was forked from one with running threads, which did not come along: OpenMP would abort
_serial_blocks = 0  # blocks of `serially` that are being run


def _after_fork_in_child() -> None:
    global _forked, _workqueue_lock
    _forked = _forked or bool(parallel._is_initialized)
    _workqueue_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def serially() -> Iterator[None]:
    """Run all kernels in their serial form within the block, in every Python thread; the bits are the same.

    For work that is divided among threads by itself, such as one small net in each: it saves compiling the parallel
    forms, and threads that wait for each other.
    """
    global _serial_blocks
    with _workqueue_lock:
        _serial_blocks += 1
    try:
        yield
    finally:
        with _workqueue_lock:
            _serial_blocks -= 1


def runs_serially() -> bool:
    """Whether all kernels run in their serial form now."""
    return bool(_forked or _serial_blocks)


def _must_be_alone() -> bool:
    global _one_at_a_time
    if _one_at_a_time is None:
        parallel._launch_threads()
        _one_at_a_time = numba.threading_layer() == "workqueue"
    return _one_at_a_time


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call. It is not cached by itself: its code ends up in the kernel's."""
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
        self.parallel = _compile(function, parallel=True)
        self.serial = _compile(function, parallel=False)

    def __call__(self, *args: Any) -> Any:
        if _forked or _serial_blocks:
            return self.serial(*args)
        if _one_at_a_time is False or not _must_be_alone():
            return self.parallel(*args)
        if not _workqueue_lock.acquire(blocking=False):
            return self.serial(*args)
        try:
            return self.parallel(*args)
        finally:
            _workqueue_lock.release()

    @property
    def is_new(self) -> bool:
        """Whether this process has neither compiled nor loaded it yet."""
        return not self.parallel.overloads and not self.serial.overloads

    def for_work(self, elements: int) -> Callable[..., Any]:
        """Return the form that pays for this many elements of work: chosen by size, never by thread count."""
        return self.serial if elements < SERIAL_WORK else self

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__name__}>"


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a function whose `prange` loops run on all threads."""
    return Kernel(function)


def _compile(function: Callable[..., Any], parallel: bool) -> Any:
    dispatcher = njit(
        parallel=parallel, nogil=True, error_model="numpy", fastmath=FASTMATH, no_cfunc_wrapper=True,
        pipeline_class=KernelCompiler,
    )(function)  # fmt: skip
    dispatcher._cache = KernelCache(function, "parallel" if parallel else "serial")
    return dispatcher
