"""Compilation: the only place that configures Numba (flags, threads, cache).

`@kernel` makes a function with `prange` loops callable as a parallel kernel, `@device` makes a helper that kernels
call. Compilation is lazy, once for each combination of argument types, and kept on disk between processes.
"""

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit, prange
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.np.ufunc import parallel

try:
    from nbnorm._compile import KernelCompiler
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
SERIAL_WORK = 16 * 1024

KEPT_VERSIONS = 16  # of the sources, in the cache

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


def _must_be_alone() -> bool:
    global _one_at_a_time
    if _one_at_a_time is None:
        parallel._launch_threads()
        _one_at_a_time = numba.threading_layer() == "workqueue"
    return _one_at_a_time


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call. It is not cached by itself: its code ends up in the kernel's."""
    compiled: Callable[..., Any] = njit(
        nogil=True, error_model="numpy", fastmath=FASTMATH, no_cpython_wrapper=True, no_cfunc_wrapper=True
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


# ---------------------------------------------------------------------------------------------------------- the cache


def cache_folder() -> Path:
    """Folder of the compiled kernels: `NUMBA_CACHE_DIR` where it is set, else the user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "minitrain"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "minitrain"


@cache
def _source_key(folder: Path) -> str:
    """Hash of every source that can end up in a kernel of this folder, and of what compiles it.

    Numba's own cache looks at the kernel's file only, so that an edited helper in another file goes unnoticed.
    """
    digest = hashlib.sha256()
    digest.update(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    digest.update(os.environ.get("NBNORM_VECTOR_BYTES", "").encode())
    for path in sorted({*Path(__file__).parent.rglob("*.py"), *folder.rglob("*.py")}):
        digest.update(str(path).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


class KernelCache(NullCache):  # type: ignore[misc]
    """Compiled code on disk, one file for each function, form and signature.

    A file begins with the SHA-256 of the rest, so that a truncated or foreign one is seen and compiled anew; it is
    written under a temporary name and renamed, so that processes can share the folder. No file error is ever raised.
    """

    def __init__(self, function: Callable[..., Any], form: str) -> None:
        self._function = function
        self._form = form

    def _path(self, signature: Any, target_context: Any) -> Path:
        function = self._function
        key = (signature, target_context.codegen().magic_tuple(), self._form)
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:20]
        sources = _source_key(Path(function.__code__.co_filename).parent)
        return cache_folder() / sources / f"{function.__module__}.{function.__qualname__}-{self._form}-{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Loaded code needs Numba's runtime. Numba's own caches call refresh() here, which also imports everything that
        # compilation could need (SciPy's linear algebra among it): half a second that loading alone can do without.
        rtsys.initialize(target_context)
        try:
            content = self._path(sig, target_context).read_bytes()
            payload = content[32:]
            if hashlib.sha256(payload).digest() != content[:32]:
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with the file, compiling anew is right
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if any(not lifted.can_cache for lifted in data.lifted) or data.library.has_dynamic_globals:
            warnings.warn(f"{self._function.__qualname__} cannot be cached on disk", stacklevel=2)
            return
        payload = dumps(data._reduce())
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
            path = self._path(sig, data.target_context)
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _prune(path.parent.parent)
            with _replacing(path) as file:
                file.write(hashlib.sha256(payload).digest() + payload)


def _prune(folder: Path) -> None:
    """Forget all but the newest versions of the sources."""
    versions = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in versions[:-KEPT_VERSIONS]:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
