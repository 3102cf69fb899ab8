"""Kernels are compiled in a way of their own: to everything else in the process, nothing has changed."""

import os
import subprocess
import sys
import warnings

import numba
import numpy as np
import pytest
from numba.core.codegen import JITCodeLibrary
from paths import ROOT

from nbnorm.jit import device, kernel, prange
from nbnorm.jit.internals import linker
from nbnorm.jit.internals.late_library import LateLibrary


@device
def inner(value):
    if value < 0:
        raise ValueError("a negative value")
    return 3 * value


@device
def outer(values, i):
    return inner(values[i]) + inner(values[-1 - i])


@kernel
def fold(x, y):
    for i in prange(x.size):
        y[i] = outer(x, i)


@kernel
def total_of_sorted(x, y):
    """A kernel with overloads of Numba's, which are compiled for it if it comes first."""
    y[:] = np.cumsum(np.diff(np.append(x, x.max())))


def library_of(dispatcher):
    return dispatcher.overloads[dispatcher.signatures[-1]].library


@pytest.mark.parametrize("form", ["serial", "parallel"])
def test_a_kernel_exports_nothing_but_itself(form, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    x, y = np.arange(4.0), np.zeros(4)
    run = getattr(kernel(fold.function), form)
    run(x, y)
    assert y.tolist() == [9, 9, 9, 9]
    library = library_of(run)
    assert isinstance(library, LateLibrary)
    defined = [f for f in library._final_module.functions if not f.is_declaration]
    assert sum(function.linkage.name == "external" for function in defined) == 2  # what is called, and from Python
    assert "inner" not in "".join(function.name for function in defined)


def test_errors_of_helpers_arrive():
    with pytest.raises(ValueError, match="a negative value"):
        fold.serial(np.full(2, -1.0), np.zeros(2))


def test_functions_of_others_are_compiled_as_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    x, y = np.array([1.0, 4.0, 9.0]), np.zeros(3)
    kernel(total_of_sorted.function).serial(x, y)

    @numba.njit
    def same(x):
        return np.cumsum(np.diff(np.append(x, x.max())))

    @numba.njit
    def with_helper(x):
        return outer(x, 0)

    assert same(x).tolist() == y.tolist() == [3, 8, 8]
    assert with_helper(x) == 30
    with pytest.raises(ValueError, match="a negative value"):
        with_helper(-x)
    for dispatcher in (same, with_helper):
        assert type(library_of(dispatcher)) is JITCodeLibrary


def test_unknown_internals_of_numba():
    """Kernels are compiled in the ordinary way then."""
    program = """
from numba.core import codegen
class Other(codegen.JITCodeLibrary):
    pass
codegen.JITCPUCodegen._library_class = Other
import numpy
from nbnorm.jit import dispatch
@dispatch.kernel
def double(x, y):
    for i in dispatch.prange(x.size):
        y[i] = 2 * x[i]
y = numpy.zeros(3)
double.serial(numpy.ones(3), y)
print(type(double.serial.overloads[double.serial.signatures[0]].library) is Other, y.sum())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": "/proc/nowhere"}
    output = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert output.stdout.split() == ["True", "6.0"], output.stderr
    assert output.stderr.count("RuntimeWarning") == 1


def test_the_internals_of_this_numba_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = kernel(fold.function).serial
        run(np.ones(3), np.zeros(3))
    assert isinstance(library_of(run), LateLibrary)
    assert linker.compiler_name() == "own"


@pytest.mark.parametrize(("switch", "expected"), [("0", "numba"), ("1", "own"), ("", "own")])
def test_the_switch(switch, expected):
    program = "from nbnorm.jit.internals import linker; print(linker.compiler_name())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NBNORM_OWN_LINKER": switch}
    output = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert output.stdout.split() == [expected], output.stderr


def test_a_kernel_that_cannot_be_compiled_says_why_and_stops_nothing(tmp_path, monkeypatch):
    """The error is the kernel's: the linker goes on."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    @kernel
    def broken(x, y):
        for i in prange(x.size):
            y[i] = x.nothing

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception, match="nothing"):
            broken.serial(np.ones(3), np.zeros(3))
    assert linker.compiler_name() == "own"
