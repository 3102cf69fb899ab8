"""A kernel is known by the sources that its module imports, as they were when they were imported."""

import importlib
import sys

import pytest
from paths import ROOT

from nbnorm.jit import sources

FILES = {
    "kernels": """
from package.helper import helped
from package.constants import *
from . import relative
from .deep import lower
def later():
    from package import only_when_called
def add(x): return helped(x)
""",
    "helper": "import package.indirect\ndef helped(x): return x",
    "constants": "FACTOR = 2",
    "relative": "",
    "indirect": "import numpy as np, json",
    "only_when_called": "",
    "sibling": "def other(x): return x",
    "deep/__init__": "from package.deep.lowest import value",
    "deep/lower": "",
    "deep/lowest": "value = 3",
}
SEEN = {"kernels", "helper", "constants", "relative", "indirect", "only_when_called", "deep/lower"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a kernel's module, what it imports, and what it does not; imported anew by `fresh`."""
    folder = tmp_path / "package"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("from package import sibling\n")
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "package"]:
        del sys.modules[name]


def new_process(monkeypatch):
    """Forget all that was read and imported, as another process knows nothing of it."""
    forget()
    importlib.invalidate_caches()
    for name in ("_digests", "_changes", "_codes", "_imports", "_followed", "_keys"):
        monkeypatch.setattr(sources, name, {})
    monkeypatch.setattr(sources, "_seen", set())


def define(module="package.kernels", function="add"):
    """Import a module whose function becomes a kernel."""
    return sources.origin(getattr(importlib.import_module(module), function))


@pytest.fixture
def key(package, monkeypatch, tmp_path):
    def new():
        new_process(monkeypatch)
        return sources.sources_key(define(), tmp_path / "cache")

    return new


@pytest.mark.parametrize("name", [*FILES, "__init__"])
def test_an_edit_counts_where_the_kernel_imports_the_file(key, package, name):
    before = key()
    assert before == key()
    path = package / f"{name}.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert (key() != before) == (name in SEEN)


def test_edits_of_what_no_kernel_sees_change_no_kernel_of_ours(tmp_path, monkeypatch):
    """An edited docstring of nbnorm/config.py, or of a kernel beside, recompiles nothing."""
    from nbnorm.kernels.batch_norm.channels_first import forward

    monkeypatch.setattr(sources, "_keys", {})
    sources.sources_key(sources.origin(forward.forward.function), tmp_path)
    seen, waiting = set(), [forward.__file__]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [other for _, other in sources._followed[path, sources._digests[path]]]
    names = {path.removeprefix(f"{ROOT}/") for path in seen}
    assert {"nbnorm/jit/dispatch.py", "nbnorm/jit/internals/linker.py", "nbnorm/simd/vectors.py"} <= names
    assert not names & {"nbnorm/__init__.py", "nbnorm/config.py", "nbnorm/batch_norm.py", "nbnorm/jit/helpers.py"}
    assert not any("backward" in name or name.startswith("minitrain") for name in names)


@pytest.mark.parametrize("known", [True, False], ids=["imports known", "imports unknown"])
@pytest.mark.parametrize("name", ["kernels", "helper", "constants"])
def test_a_process_whose_sources_are_replaced_does_not_take_its_code_for_the_new(
    key, package, monkeypatch, tmp_path, name, known
):
    """It knows itself by the old sources, or by nothing where it cannot tell any more what they imported."""
    old = key()
    folder = tmp_path / "cache" if known else tmp_path / "other"
    new_process(monkeypatch)
    origin = define()
    path = package / f"{name}.py"
    path.write_text(path.read_text() + "\n# upgraded\n")
    assert sources.sources_key(origin, folder) == (old if known else None)
    assert key() not in (old, None)


def test_a_module_that_is_imported_again(key, package, monkeypatch, tmp_path):
    """The kernels of before are known by the former sources or by nothing, those of now by what was imported now."""
    old = key()
    before = define()
    path = package / "kernels.py"
    path.write_text(path.read_text() + "\n# edited\n")
    importlib.reload(sys.modules["package.kernels"])
    after = define()
    folder = tmp_path / "cache"
    assert before != after
    assert sources.sources_key(before, folder) == old
    monkeypatch.setattr(sources, "_keys", {})
    assert sources.sources_key(before, folder) is None
    assert sources.sources_key(after, folder) == key()


def test_an_edited_file_that_may_not_have_been_imported_again(key, package, tmp_path):
    key()
    for name in ("constants", "kernels"):
        path = package / f"{name}.py"
        path.write_text(path.read_text() + "\n# edited\n")
    importlib.reload(sys.modules["package.kernels"])
    assert sources.sources_key(define(), tmp_path / "cache") is None


def test_functions_without_a_file(tmp_path):
    program = compile("def add(x): return x", "<stdin>", "exec")
    names = {"__name__": "__main__"}
    exec(program, names)
    assert sources.sources_key(sources.origin(names["add"]), tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": [[1]]}', '{"a": [["x", 2, 3]]}', "\x00\xff"])
def test_a_damaged_list_of_imports(key, package, tmp_path, text):
    before = key()
    (tmp_path / "cache" / "imports.json").write_text(text)
    assert key() == before


def test_a_folder_that_cannot_be_written(key, package, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    assert key() is not None
