"""Whatever changes in Numba: kernels compute the same, one warning says what goes without, nothing is raised.

Each name that the modules of this folder take through the door is made to fail in every way a name can change. The
names are found in the sources, so that the next one is tested too.
"""

import ast
import importlib
import os
import sys
import warnings

import numpy as np
import pytest
from paths import ROOT

import nbnorm.jit

INTERNALS = ROOT / "nbnorm" / "jit" / "internals"
WAYS = ("missing", "raising", "other signature", "other layout")
HARMLESS = {"initialize", "Parfor"}  # what they return changes nothing, or what they are can be told from nothing
FOUND_LATER = {"_reload_init"}  # which not every Numba has


def trees():
    return {path.name: ast.parse(path.read_text()) for path in sorted(INTERNALS.glob("*.py"))}


def names():
    """Module and name of all that is taken through the door."""
    found = set()
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("private", "door.private"):
                found.add((module, node.args[1].value))
    return sorted(found)


def broken(way, real, name):
    """What stands under a name in a Numba of another kind."""
    if way == "missing":
        raise AttributeError(name)
    if way == "raising":
        if not callable(real) or isinstance(real, type):
            raise ZeroDivisionError(name)
        return lambda *_, **__: 1 / 0
    if way == "other layout":
        return (lambda *_, **__: object()) if callable(real) and not isinstance(real, type) else object()

    class Other:
        def __init__(self, *, needed):
            pass

    if isinstance(real, type):
        return Other
    return (lambda *, needed: None) if callable(real) else object()


@pytest.fixture
def fresh_jit(monkeypatch, tmp_path):
    """`nbnorm.jit` imported anew, with a door that is closed for one name; and how often that was tried."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(nbnorm, "jit", nbnorm.jit)

    def make(closed, way):
        for name in [name for name in sys.modules if name.partition("nbnorm.jit")[1] and name.startswith("nbnorm")]:
            monkeypatch.delitem(sys.modules, name)
        door = importlib.import_module("nbnorm.jit.internals.door")
        opened = door.private
        tried = []

        def private(owner, name):
            if name != closed:
                return opened(owner, name)
            tried.append(name)
            return broken(way, opened(owner, name), name)

        monkeypatch.setattr(door, "private", private)
        return importlib.import_module("nbnorm.jit"), tried

    return make


def run(jit, form):
    """Compile and run a kernel with a helper, twice: the second is loaded if anything was kept."""

    @jit.device
    def plus(value, more):
        return value + more

    def add(x, y):
        for i in jit_range(x.size):
            y[i] = plus(x[i], 2)

    jit_range = jit.prange
    for _ in range(2):
        kernel = jit.kernel(add)
        compute(getattr(kernel, form))
    return getattr(kernel, form)


def run_in_child(form):
    """Run a compiled kernel in a forked process."""
    pid = os.fork()
    if pid == 0:
        try:
            compute(form)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def compute(form):
    x, y = np.ones(5), np.zeros(5)
    form(x, y)
    assert y.tolist() == [3] * 5


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("module", "name"), names())
def test_a_changed_name_raises_nothing(module, name, way, fresh_jit):
    form = "parallel" if "Parfor" in name or name in ("FunctionPass", "register_pass") else "serial"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jit, tried = fresh_jit(name, way)
        compiled = run(jit, form)
        if module == "threads.py":
            run_in_child(compiled)
    said = [str(each.message) for each in caught if issubclass(each.category, RuntimeWarning)]
    assert len(said) == len(set(said)) <= 2  # two pieces may need one name
    if tried and name not in HARMLESS | FOUND_LATER:
        assert caught


def test_there_is_no_other_way_to_private_names():
    for module, tree in trees().items():
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {
            ast.unparse(node.targets[0]).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Assign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                text = ast.unparse(node)
                assert "numba" not in text.replace("import numba", "").replace("from numba import", ""), text
                assert "numba.core" not in text, f"{module}: {text}"
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and isinstance(node.ctx, ast.Load):
                of_itself = ast.unparse(node.value) in ("self", "super()")
                assert of_itself or node.attr in own or node.attr.endswith("__"), f"{module}: {ast.unparse(node)}"


def test_all_fail_at_once(fresh_jit, monkeypatch):
    """The toolchain without anything private is plain Numba."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fresh_jit("nothing", "missing")
        door = sys.modules["nbnorm.jit.internals.door"]
        for name in [name for name in sys.modules if name.startswith("nbnorm.jit") and not name.endswith(".door")]:
            monkeypatch.delitem(sys.modules, name)

        def private(owner, name):
            raise AttributeError(name)

        monkeypatch.setattr(door, "private", private)
        run(importlib.import_module("nbnorm.jit"), "parallel")
        run_in_child(run(importlib.import_module("nbnorm.jit"), "serial"))
    assert len({str(each.message) for each in caught}) == len(caught) == 3  # cache, linker, threads
