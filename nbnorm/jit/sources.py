"""Which sources a kernel is made of, and what they said when they were imported.

Numba's own cache looks at the file of a function only, so that an edited helper in another file goes unnoticed (Numba
issue 1833; pull request 8396 would look at callees). Here a kernel is known by its file and all that this imports,
directly or not, within functions too; modules of the standard library and of other distributions are left out. A
package's `__init__.py` counts where something is imported from it, not where a module within it is.

The files are read when they are imported, at the next `@kernel` or `@device`: a process that goes on while its sources
are replaced knows its kernels by what it has imported. Only what is imported later, within functions, is read later.
"""

import ast
import hashlib
import importlib.machinery
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nbnorm.jit.files import replacing

__all__ = ["Origin", "origin", "sources_key"]

INSTALLED = ("site-packages", "dist-packages")
KEPT_FILES = 4000  # whose imports are remembered on disk, about 200 bytes each

Imports = list[tuple[int, str, list[str]]]  # level, module, names, as in `from ..module import names`


class Origin(NamedTuple):
    """Where a kernel comes from."""

    module: str
    path: str
    time: int  # of its definition, in changes of sources


_digests: dict[str, str | None] = {}  # of what was imported, by path; None: cannot be read
_changes: dict[str, int] = {}  # when a file was imported again with another text
_time = 0
_codes: dict[tuple[str, str], Any] = {}  # code objects by path and name: another one means that the file ran again
_packages = {__name__.split(".")[0]}  # with kernels in them, which may be installed
_seen: set[str] = set()  # names of modules whose files were read if they count
_last_state = 0, ""  # number of modules then, and the last
_imports: dict[str, Imports] = {}  # by digest
_followed: dict[tuple[str, str], list[tuple[str, str]]] = {}  # names and paths of what a file imports
_keys: dict[Origin, str | None] = {}


def origin(function: Any) -> Origin:
    """Return where a function that is being defined comes from, and read what is imported by now."""
    path, module = function.__code__.co_filename, function.__module__
    defined = _codes.setdefault((path, function.__qualname__), function.__code__)
    if defined is not function.__code__:
        _codes[path, function.__qualname__] = function.__code__
        _read_again(path)
    _read(path)
    _read_imported(module.split(".")[0])
    return Origin(module, path, _time)


def sources_key(kernel: Origin, folder: Path) -> str | None:
    """Return a hash of the sources of a kernel; None where they cannot be known, as in a notebook.

    To read which file imports which takes longer than to load the kernels: `folder` keeps it, by the files' hashes.
    """
    if kernel not in _keys:
        _keys[kernel] = _hash(kernel, folder)
    return _keys[kernel]


def _hash(kernel: Origin, folder: Path) -> str | None:
    known = _load_imports(folder)
    found: dict[str, str] = {}
    waiting = [(kernel.module, kernel.path)]
    while waiting:
        module, path = waiting.pop()
        if path in found:
            continue
        digest = _read(path)
        if digest is None or _changes.get(path, 0) > kernel.time:
            return None
        if digest not in _imports and not _parse(path, digest):
            return None  # replaced since it was imported
        found[path] = digest
        if (path, digest) not in _followed:
            _followed[path, digest] = list(_modules(module, path, _imports[digest]))
        waiting.extend(_followed[path, digest])
    if len(_imports) > known:
        _save_imports(folder)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


# ----------------------------------------------------------------------------------------------------- reading files


def _read(path: str) -> str | None:
    if path not in _digests:
        _digests[path] = _digest(path)
    return _digests[path]


def _read_again(path: str) -> None:
    """Note that this file runs again (`importlib.reload`, a notebook): kernels of its former text are not known by it.

    Of others that were edited nobody can tell whether they ran again too: what imports them is known by nothing.
    """
    global _time
    _time += 1
    for other in list(_digests):
        digest = _digest(other)
        if digest != _digests[other]:
            _digests[other] = digest if other == path else None
            _changes[other] = _time


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb", buffering=0) as file:  # of hundreds of files: `Path` takes longer than to read them
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def _read_imported(package: str) -> None:
    """Read the files of the modules that were imported since the last time."""
    global _last_state
    if package not in _packages:
        _packages.add(package)
        _seen.clear()
    state = len(sys.modules), next(reversed(sys.modules))
    if not _seen or state != _last_state:
        _last_state = state
        new = sys.modules.keys() - _seen
        _seen.update(new)
        for name in new:
            path = _path_of_loaded(name)
            if path is not None:
                _read(path)


def _path_of_loaded(name: str) -> str | None:
    path = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
    return path if isinstance(path, str) and _counts(name, path) else None


def _counts(name: str, path: str) -> bool:
    package = name.partition(".")[0]
    if package in _packages:
        return True
    return package not in sys.stdlib_module_names and INSTALLED[0] not in path and INSTALLED[1] not in path


# ------------------------------------------------------------------------------------------------ which imports which


def _parse(path: str, digest: str) -> bool:
    """Find out what a file imports; False if it is not the one that was read any more."""
    try:
        text = Path(path).read_bytes()
        if hashlib.sha256(text).hexdigest() != digest:
            return False
        tree = ast.parse(text) if path.endswith(".py") else ast.Module([], [])
    except (OSError, ValueError, SyntaxError):
        return False
    found: Imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    _imports[digest] = found
    return True


def _modules(importer: str, path: str, imports: Imports) -> Iterator[tuple[str, str]]:
    """Modules that count, with their files, of what `importer` imports."""
    for level, module, names in imports:
        if level:  # relative to the package that the importer is, or is in
            own = importer.split(".")
            keep = len(own) - level + (Path(path).name == "__init__.py")
            module = ".".join([*own[:keep], *([module] if module else [])])
        wanted = {_of_submodule(module, name) or module for name in names} or {module}
        for name in sorted(wanted):
            found = _path(name)
            if found is not None:
                yield name, found


def _of_submodule(package: str, name: str) -> str | None:
    """Return the name of a module that `from package import name` gives; None where it is something else."""
    value = getattr(sys.modules.get(package), "__dict__", {}).get(name)
    submodule = f"{package}.{name}"
    is_module = value is None or isinstance(value, ModuleType)
    return submodule if is_module and _path(submodule) is not None else None


def _path(name: str) -> str | None:
    """Path of a module that counts, whether it is loaded or not."""
    if name in sys.modules:
        return _path_of_loaded(name)
    package, _, _ = name.rpartition(".")
    if name.split(".")[0] in sys.stdlib_module_names:
        return None
    try:
        folders = None
        if package:
            parent = sys.modules.get(package)
            initial = _path(package) if parent is None else None
            folders = [str(Path(initial).parent)] if initial else list(getattr(parent, "__path__", ()))
        spec = importlib.machinery.PathFinder.find_spec(name, folders)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None and spec.origin is not None and _counts(name, spec.origin) else None


def _imports_path(folder: Path) -> Path:
    return folder / "imports.json"


def _load_imports(folder: Path) -> int:
    """Take what earlier processes found out; return how much is known then."""
    if not _keys:  # the first time
        try:
            known = json.loads(_imports_path(folder).read_bytes())
            found = {digest: [(int(level), str(module), [*map(str, names)]) for level, module, names in imports]
                     for digest, imports in known.items()}  # fmt: skip
            _imports.update(found)
        except (OSError, ValueError, TypeError, AttributeError):
            pass
    return len(_imports)


def _save_imports(folder: Path) -> None:
    kept = dict(list(_imports.items())[-KEPT_FILES:])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(_imports_path(folder)) as file:
            file.write(json.dumps(kept).encode())
    except OSError:
        pass
