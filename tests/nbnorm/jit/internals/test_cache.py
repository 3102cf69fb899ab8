"""The cache of compiled kernels: never stale, never in the way. A small kernel in its own folder stands for all."""

import os
import shutil
import subprocess
import sys
import time

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from paths import ROOT

from nbnorm.jit import kernel, prange
from nbnorm.jit.internals.cache import SETTINGS, _without_bitcode


@kernel
def twice(x, y):
    """y = 2 x"""
    for i in prange(x.size):
        y[i] = 2 * x[i]


KERNEL = """
from helper import helped
from nbnorm.jit import kernel, prange
from nbnorm.simd.vectors import lanes_of

@kernel
def scale(x, y):
    for i in prange(x.size):
        y[i] = helped(x[i]) * lanes_of(x)
"""
HELPER = """
from nbnorm.jit import device

@device
def helped(value):
    return value * {factor}
"""
RUN = """
import numpy as np
from kernels import scale
x, y = np.full(3, 11.0), np.zeros(3)
scale.{form}(x, y)
print(y[0] / (64 // 8))
from nbnorm.jit.internals.cache import cache_folder
print(cache_folder())
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of nbnorm, a kernel, a helper in another file, and a place for the cache."""
    shutil.copytree(ROOT / "nbnorm", tmp_path / "nbnorm", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "kernels.py").write_text(KERNEL)
    (tmp_path / "helper.py").write_text(HELPER.format(factor=1))
    return tmp_path


def start(folder, form="serial", **variables):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "NBNORM_VECTOR_BYTES": "64", **variables}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.Popen(
        [sys.executable, "-B", "-c", RUN.format(form=form)], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return float(output.split()[0])


def cached(folder):
    return sorted((folder / "cache").rglob("*.nbc"))


def test_an_edited_helper_or_intrinsic_takes_effect(folder):
    assert result(start(folder)) == 11
    first = cached(folder)
    assert len(first) == 1
    changed = first[0].stat().st_mtime_ns
    assert result(start(folder)) == 11
    assert [path.stat().st_mtime_ns for path in cached(folder)] == [changed]  # loaded, not compiled again
    (folder / "helper.py").write_text(HELPER.format(factor=10))
    assert result(start(folder)) == 110
    vectors = folder / "nbnorm" / "simd" / "vectors.py"
    text = vectors.read_text()
    edited = text.replace("INDEX(vector_of(array.dtype).lanes)", "INDEX(3 * vector_of(array.dtype).lanes)")
    assert edited != text
    vectors.write_text(edited)
    assert result(start(folder)) == 330


@pytest.mark.parametrize("form", ["serial", "parallel"])
def test_loaded_kernels_compute_the_same(folder, form):
    assert result(start(folder, form)) == 11
    (path,) = cached(folder)
    changed = path.stat().st_mtime_ns
    assert result(start(folder, form)) == 11
    assert path.stat().st_mtime_ns == changed
    assert path.stat().st_size < 64_000  # machine code, and of the bitcode the names alone


def test_of_the_bitcode_the_names_are_kept():
    text = """
        declare i32 @outside(i32)
        @"a.variable" = global i32 7
        define i32 @"a$function"(i32 %x) { %y = call i32 @outside(i32 %x) ret i32 %y }
    """
    saved = ("library", "object", (b"machine code", llvm.parse_assembly(text).as_bitcode()))
    (*names, (code, bitcode)), *others = _without_bitcode((saved, "and", "the rest"))
    assert (names, code, others) == (["library", "object"], b"machine code", ["and", "the rest"])
    module = llvm.parse_bitcode(bitcode)
    assert {each.name for each in module.functions if not each.is_declaration} == {"a$function"}
    assert [each.name for each in module.global_variables if not each.is_declaration] == ["a.variable"]
    assert "outside" not in str(module)


def test_damaged_files_are_compiled_anew(folder):
    assert result(start(folder)) == 11
    (path,) = cached(folder)
    good = path.read_bytes()
    for bad in (b"", good[:20], good[:-100], b"garbage" * 1000, good[:40] + b"x" + good[41:]):
        path.write_bytes(bad)
        assert result(start(folder)) == 11
        assert path.read_bytes()[:32] == good[:32] or len(path.read_bytes()) > 1000


def test_folders_that_cannot_be_used(folder):
    blocked = folder / "file"
    blocked.write_text("not a folder")
    assert result(start(folder, NUMBA_CACHE_DIR=str(blocked))) == 11
    assert result(start(folder, NUMBA_CACHE_DIR="/proc/nowhere")) == 11
    (folder / "cache").mkdir(mode=0o500)
    assert result(start(folder)) == 11


def test_ten_processes_at_once_on_an_empty_cache(folder):
    processes = [start(folder) for _ in range(10)]
    assert [result(process) for process in processes] == [11] * 10
    assert len(cached(folder)) == 1
    assert not list((folder / "cache").rglob("*.tmp"))


def test_a_warm_parallel_kernel_starts_quickly(folder):
    """Loading needs a fraction of what compiling does: measured against the first run, as machines differ."""
    start_of_first = time.perf_counter()
    result(start(folder, "parallel"))
    first = time.perf_counter() - start_of_first
    second = []
    for _ in range(2):
        started = time.perf_counter()
        result(start(folder, "parallel"))
        second.append(time.perf_counter() - started)
    assert min(second) < 0.75 * first


@pytest.mark.parametrize(
    "variables",
    [
        {"NUMBA_OPT": "1"},
        {"NUMBA_BOUNDSCHECK": "1"},
        {"NUMBA_LOOP_VECTORIZE": "0"},
        {"NUMBA_CPU_NAME": "generic"},
        {"NBNORM_OWN_LINKER": "0"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_settings_that_change_the_code(folder, variables):
    assert result(start(folder)) == 11
    assert result(start(folder, **variables)) == 11
    assert len(cached(folder)) == 2


def test_settings_that_a_program_makes(monkeypatch):
    """What is in Numba's configuration counts, wherever it came from."""
    run = kernel(twice.function).serial
    run(np.ones(3), np.zeros(3))
    signature = run.signatures[0]
    before = run._cache.path(signature)
    assert before == run._cache.path(signature)
    for name in ("SLP_VECTORIZE", "DEBUG_NRT", "LLVM_REFPRUNE_FLAGS"):
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, name, "another")
            assert run._cache.path(signature) != before
    assert before == run._cache.path(signature)


def test_only_names_of_settings_that_some_numba_has():
    assert sum(not hasattr(numba.config, name) for name in SETTINGS) <= 2


def test_the_folder_is_not_named_after_a_package_above(folder):
    assert result(start(folder)) == 11
    assert [path.name for path in (folder / "cache").iterdir()] == ["nbnorm"]
