"""What a call of a kernel runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from nbnorm.jit import SERIAL_WORK, dispatch, kernel, prange


@kernel
def double(x, y):
    """y = 2 x"""
    for i in prange(x.size):
        y[i] = 2 * x[i]


@pytest.mark.parametrize("package", ["nbnorm", "minitrain", "nbnorm.simd.vectors"])
def test_a_numba_that_compiles_nothing_gets_one_sentence(package):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-c", f"import {package}"], env=environment, capture_output=True, text=True
    )
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: nbnorm is made of kernels that Numba compiles, and NUMBA_DISABLE_JIT=1")
    assert result.stderr.count("Traceback") == 1


@pytest.fixture
def mode(monkeypatch):
    """The mode of the process as it is before the first kernel runs; what was is restored."""
    monkeypatch.setattr(dispatch, "_mode", dispatch._Mode())
    monkeypatch.setattr(dispatch, "_is_simple", False)
    return dispatch._mode


def forms_of(monkeypatch, mode):
    ran = []
    for form in ("parallel", "serial"):
        monkeypatch.setattr(double, form, lambda *_, form=form: ran.append((form, mode.workqueue.locked())))
    return ran


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("omp", ("parallel", False)), ("workqueue", ("parallel", True)), ("", ("serial", False))],
)
def test_each_threading_layer(layer, expected, mode, monkeypatch):
    monkeypatch.setattr(dispatch.threads, "launch", lambda: layer)
    ran = forms_of(monkeypatch, mode)
    double(1)
    double(1)
    assert ran == [expected] * 2


def test_a_busy_workqueue(mode, monkeypatch):
    monkeypatch.setattr(dispatch.threads, "launch", lambda: "workqueue")
    ran = forms_of(monkeypatch, mode)
    with mode.workqueue:
        double(1)
    assert ran == [("serial", True)]


def test_kernels_that_are_only_compiled(mode):
    x, y = np.ones(3), np.zeros(3)
    fresh = kernel(double.function)
    fresh.only_compile()
    fresh(x, y)
    assert fresh.parallel.signatures
    assert not fresh.serial.signatures
    fresh.for_work(SERIAL_WORK - 1)(x, y)
    assert fresh.serial.signatures
    assert fresh.for_work(SERIAL_WORK) is fresh
    assert not y.any()


def test_small_work_runs_on_one_thread():
    assert double.for_work(SERIAL_WORK - 1) is double.serial
    assert double.for_work(SERIAL_WORK) is double
