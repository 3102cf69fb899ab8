"""Compiled kernels on disk: keyed by their sources, shared by processes, never an error.

This stands in for Numba's own cache (`cache=True`), which looks at the kernel's file only: an edited helper in another
file goes unnoticed (Numba issue 1833, open since 2016; pull request 8396). See `nbnorm.jit.sources` for the key.
"""

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from nbnorm.jit.files import replacing
from nbnorm.jit.internals import door, locks
from nbnorm.jit.sources import Origin, sources_key

__all__ = ["BeingCompiledError", "Hooks", "cache_folder", "keep_on_disk"]

KEPT_VERSIONS = 8  # of the sources of a kernel's file
VECTOR_BYTES = os.environ.get("NBNORM_VECTOR_BYTES", "")  # as when `nbnorm.simd` was imported

# Numba's settings that change the machine code, environment variables NUMBA_<name>. They are read from Numba, so that
# a program that sets them there counts too. One that a version of Numba does not have is None.
SETTINGS = (
    "OPT",  # LLVM's level of optimization
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "CPU_NAME",  # instructions: with CPU_FEATURES and ENABLE_AVX they decide Numba's description of the machine, which
    "CPU_FEATURES",  # is in the key too, but is made once in a process
    "ENABLE_AVX",
    "DISABLE_INTEL_SVML",  # who computes vectors of sines and the like
    "USING_SVML",  # what came of it
    "BOUNDSCHECK",  # checks of indices, in all functions
    "DEBUGINFO_DEFAULT",  # line numbers, which keep LLVM from some optimizations
    "EXTEND_VARIABLE_LIFETIMES",  # for debuggers
    "DEBUG_NRT",  # memory is filled with a pattern
    "DEBUG_NRT_STACK_LIMIT",
    "DEBUG_ARRAY_OPT_RUNTIME",  # parallel loops print what they do
    "PARFOR_MAX_TUPLE_SIZE",  # how parallel loops are given tuples
    "LLVM_REFPRUNE_PASS",  # counts of references that cancel out are left out
    "LLVM_REFPRUNE_FLAGS",
    "DIFF_IR",  # names in the code
    "ENABLE_PROFILING",
    "USE_LLVMLITE_MEMORY_MANAGER",  # how far apart code may lie
    "USE_LEGACY_TYPE_SYSTEM",  # Numba 0.61 and 0.62
)


_classes: dict[type, Any] = {}  # of caches, by the class of Numba's that they stand in for


class BeingCompiledError(Exception):
    """Another process compiles this kernel just now, and this one does not want to wait."""


class Hooks:
    """What others want to know of the cache."""

    def __init__(self) -> None:
        self.on_miss: Callable[[Path], None] = _nothing  # this process is about to compile for the cache in a folder
        self.on_busy: Callable[[], None] = (
            _nothing  # another process compiles what is wanted; may raise the error above
        )


def _nothing(*_: Any) -> None:
    pass


def cache_folder() -> Path:
    """Folder of the compiled kernels: `NUMBA_CACHE_DIR` where it is set, else the user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "nbnorm"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "nbnorm"


def keep_on_disk(dispatcher: Any, origin: Origin, form: str, compiler: Callable[[], str], hooks: Hooks) -> None:
    """Give Numba's dispatcher of a kernel a cache; where that fails, it compiles in each process.

    `form` tells kernels of one function apart, `compiler()` says how it would be compiled now.
    """
    try:
        replaced = door.private(dispatcher, "_cache")
        for name in ("load_overload", "save_overload"):  # what Numba calls
            getattr(replaced, name)
        make = _kernel_cache(type(replaced))
        dispatcher._cache = make(origin, dispatcher.py_func.__qualname__, form, compiler, hooks)
    except Exception as error:
        door.warn_once("cache", error)


def _kernel_cache(base: type) -> Any:
    """Make the class: a subclass of Numba's cache that does nothing, so that it has all that Numba may call."""
    if base not in _classes:
        _classes[base] = type("KernelCache", (KernelCache, base), {})
    return _classes[base]


class KernelCache:
    """Compiled code on disk, one file for each function, form and signature.

    A file begins with the SHA-256 of the rest, so that a truncated or foreign one is seen and compiled anew; it is
    written under a temporary name and renamed, so that processes can share the folder. Nothing is ever raised but what
    `hooks.on_busy` raises.
    """

    target_context: Any = None

    def __init__(self, origin: Origin, name: str, form: str, compiler: Callable[[], str], hooks: Hooks) -> None:
        self.origin = origin
        self.name = name
        self.form = form
        self.compiler = compiler
        self.hooks = hooks

    def load_overload(self, *call: Any) -> Any:
        """Called by Numba: return the compiled function or None, which is then compiled."""
        if door.failed("cache"):
            return None
        try:
            signature, self.target_context = call
            path = self.path(signature)
            return None if path is None else self._load_or_begin(path)
        except BeingCompiledError:
            raise
        except Exception as error:
            locks.release()
            door.warn_once("cache", error)
        return None

    def save_overload(self, *call: Any) -> None:
        """Called by Numba with what it has compiled."""
        try:
            if not door.failed("cache"):
                signature, compiled = call
                self._save(signature, compiled)
        except OSError:  # a full disk, a folder that cannot be written
            pass
        except Exception as error:
            door.warn_once("cache", error)
        finally:
            locks.release()

    def path(self, signature: Any) -> Path | None:
        """Where the code for a signature belongs; None where it cannot be kept."""
        try:
            folder = cache_folder()
        except RuntimeError:  # the user has no home folder
            return None
        sources = sources_key(self.origin, folder)
        if sources is None:
            return None
        machine = door.private(door.private(self.target_context, "codegen")(), "magic_tuple")()
        if not isinstance(machine, tuple):
            raise TypeError(f"expected a tuple that describes the machine, got {type(machine).__name__}")
        settings = [getattr(numba.config, name, None) for name in SETTINGS]
        versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version)
        key = (signature, machine, self.form, versions, settings, self.compiler(), VECTOR_BYTES)
        file = f"{self.name}-{self.form}-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.nbc"
        return folder / self.origin.module / sources[:20] / file

    def _load_or_begin(self, path: Path) -> Any:
        found = self._load(path)
        if found is not None:
            return found
        with contextlib.suppress(OSError):
            _make_folder(path.parent)
            if locks.begin(path, self.hooks.on_busy):
                self.hooks.on_miss(cache_folder())
        found = self._load(path)  # somebody may have been faster
        if found is not None:
            locks.release()
        return found

    def _load(self, path: Path) -> Any:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        # Loaded code needs Numba's runtime. Numba's own caches call refresh() here, which also imports everything that
        # compilation could need (SciPy's linear algebra among it): half a second that loading alone can do without.
        door.private(door.private("numba.core.runtime", "rtsys"), "initialize")(self.target_context)
        rebuild = door.private(door.private("numba.core.compiler", "CompileResult"), "_rebuild")
        found = rebuild(self.target_context, *pickle.loads(content[32:]))
        for name in ("entry_point", "fndesc", "library", "objectmode"):  # what a dispatcher wants of it
            getattr(found, name)
        return found

    def _save(self, signature: Any, compiled: Any) -> None:
        path = self.path(signature)
        if path is None:
            return
        lifted = door.private(compiled, "lifted")
        if any(not loop.can_cache for loop in lifted) or door.private(compiled.library, "has_dynamic_globals"):
            warnings.warn(f"{self.name} cannot be cached on disk", stacklevel=2)
            return
        reduced = door.private(compiled, "_reduce")()
        if not isinstance(reduced, tuple):
            raise TypeError(f"expected a tuple of what was compiled, got {type(reduced).__name__}")
        if not door.failed("bitcode"):
            try:
                reduced = _without_bitcode(reduced)
            except Exception as error:
                door.warn_once("bitcode", error)
        payload = door.private("numba.core.serialize", "dumps")(reduced)
        _make_folder(path.parent)
        with replacing(path) as file:
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


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder.parent)


def _prune(folder: Path) -> None:
    """Forget all but the newest versions of the sources."""
    versions = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in versions[:-KEPT_VERSIONS]:
        shutil.rmtree(path, ignore_errors=True)
