"""Compiled kernels on disk: keyed by all sources, shared by processes, never an error."""

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from nbnorm.jit import helpers

try:
    import fcntl
except ImportError:  # not on Windows, where each process compiles for itself
    fcntl = None  # type: ignore[assignment]

KEPT_VERSIONS = 16  # of the sources
PATIENCE = 60.0  # seconds to wait for another process that compiles the same


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
    for path in sorted({*Path(__file__).parents[2].rglob("*.py"), *folder.rglob("*.py")}):
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
            path = self._path(sig, target_context)
        except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
            return None
        found = _load(path, target_context)
        if found is None:
            if _begin(path):
                helpers.start(path.parent.parent)
            found = _load(path, target_context)  # somebody may have been faster
            if found is not None:
                release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._save(sig, data)
        finally:
            release()

    def _save(self, sig: Any, data: Any) -> None:
        if any(not lifted.can_cache for lifted in data.lifted) or data.library.has_dynamic_globals:
            warnings.warn(f"{self._function.__qualname__} cannot be cached on disk", stacklevel=2)
            return
        payload = dumps(_without_bitcode(data._reduce()))
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
            path = self._path(sig, data.target_context)
            _make_folder(path.parent)
            with _replacing(path) as file:
                file.write(hashlib.sha256(payload).digest() + payload)


def _without_bitcode(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave the kernel's bitcode out of what Numba saves, but for the names of what it defines.

    Numba keeps it for other functions that inline this one. Nothing inlines a kernel, and reading it takes half of the
    time to load one, and its memory. Should anything try, it would meet a trap.
    """
    (name, kind, (code, bitcode)), *others = reduced
    module = llvm.parse_bitcode(bitcode)
    functions = (each.name for each in module.functions if not each.is_declaration)
    variables = (each.name for each in module.global_variables if not each.is_declaration)
    lines = ["declare void @llvm.trap()"]
    lines += [f'define void @"{name}"() {{ call void @llvm.trap() unreachable }}' for name in functions]
    lines += [f'@"{name}" = global i8 0' for name in variables]
    return (name, kind, (code, llvm.parse_assembly("\n".join(lines)).as_bitcode())), *others


def _load(path: Path, target_context: Any) -> Any:
    try:
        content = path.read_bytes()
        payload = content[32:]
        if hashlib.sha256(payload).digest() != content[:32]:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(payload))
    except Exception:  # whatever is wrong with the file, compiling anew is right
        return None


_locks: dict[Path, int] = {}  # files that say what this process compiles; Numba compiles one function at a time


def _begin(path: Path) -> bool:
    """Say that this process compiles what belongs at `path`; first wait until no other process does.

    False if that cannot be said. The system takes the lock from a process that ends in whatever way.
    """
    if fcntl is None:
        return False
    place = path.with_suffix(".lock")
    try:
        _make_folder(path.parent)
        lock = os.open(place, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        return False
    started = time.monotonic()
    try:
        while time.monotonic() - started < PATIENCE:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                helpers.meet()
                time.sleep(0.01)
            else:
                _locks[place] = lock
                return True
    except OSError:  # a file system without locks
        pass
    finally:
        if place not in _locks:
            os.close(lock)
    return False


def release() -> None:
    """Say that this process compiles nothing any more, done or failed."""
    while _locks:
        place, lock = _locks.popitem()
        with contextlib.suppress(OSError):
            os.unlink(place)
        os.close(lock)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder.parent)


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
