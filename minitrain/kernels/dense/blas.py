"""Products of matrices by NumPy's BLAS, kept from fighting Numba's threads for the cores.

OpenBLAS's threads go on spinning for milliseconds after a product, on the cores that the next kernel's threads need: a
training step of the net of Ioffe and Szegedy's figure 1 took 31 ms with them and 1.1 ms without (4 cores). Products
below `MULTITHREADED_FLOPS` therefore run on the calling thread alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from nbnorm.jit.arrays import Array

__all__ = ["matmul"]

# Operations of a product from which on threads of BLAS gain more than their spinning costs. From fewer on, the kernel
# that comes next waits for cores; from more on, large products run on one of them. Found with `benchmarks.peers
# training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
MULTITHREADED_FLOPS = 1_000_000_000

_lock = threading.Lock()
_users = 0  # products that are being computed on one thread
_former = 1  # BLAS's number of threads before the first of them


def _after_fork_in_child() -> None:
    """Forget the products that other threads were computing when this process was forked: they did not come along."""
    global _lock, _users
    _lock, _users = threading.Lock(), 0


if sys.platform != "win32":  # where no process forks
    os.register_at_fork(after_in_child=_after_fork_in_child)


def matmul(a: Array, b: Array, out: Array) -> None:
    """out = a @ b, for two matrices."""
    set_threads = _openblas_set_threads()
    if set_threads is None or 2 * a.size * b.shape[1] >= MULTITHREADED_FLOPS:
        np.matmul(a, b, out=out)
        return
    global _users, _former
    with _lock:
        if _users == 0:
            _former = set_threads(1)
        _users += 1
    try:
        np.matmul(a, b, out=out)
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                set_threads(_former)


@cache
def _openblas_set_threads() -> Callable[[int], int] | None:
    """Return the function of the OpenBLAS in NumPy's wheel that sets its number of threads and returns the former one.

    None where NumPy has another BLAS (Accelerate, a distribution's own): that one is left alone.
    """
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                function = ctypes.CDLL(str(path)).openblas_set_num_threads_local
            except (OSError, AttributeError):
                continue
            function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
            return function  # type: ignore[no-any-return]
    return None
