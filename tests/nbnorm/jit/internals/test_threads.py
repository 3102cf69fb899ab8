"""Threads that cannot be had, and forks at the worst moment."""

import os
import subprocess
import sys
import warnings

import numba
import pytest
from paths import ROOT

from nbnorm.jit.internals import door, threads

# One thread compiles all the time, another runs a kernel, while the main thread forks: each child compiles and runs.
FORKS = """
import faulthandler, os, threading, time
import numpy as np
from nbnorm.jit import kernel, prange

def make(number):
    def add(x, y):
        for i in prange(x.size):
            y[i] = x[i] + number
    return kernel(add)

def compute(run, number, size=4):
    x, y = np.ones(size), np.zeros(size)
    run(x, y)
    assert (y == 1 + number).all()

over = False
compiled = 0
def compile_on():
    global compiled
    while not over:
        compute(make(compiled).serial, compiled)
        compiled += 1

def run_on():
    run = make(1)
    while not over:
        compute(run, 1, 1000)

others = [threading.Thread(target=work, daemon=True) for work in (compile_on, run_on)]
for thread in others:
    thread.start()
while compiled < 1:
    time.sleep(0.01)
for number in range(6):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(60, exit=True)
        try:
            compute(make(number).serial, number)
            compute(make(number + 10), number + 10)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, number
    time.sleep(0.03 * number)
over = True
for thread in others:
    thread.join()
print("done")
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_children_of_a_process_that_compiles_and_computes(tmp_path, layer):
    (tmp_path / "forks.py").write_text(FORKS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": "/proc/nowhere"}
    environment["NUMBA_THREADING_LAYER"] = layer
    result = subprocess.run(
        [sys.executable, tmp_path / "forks.py"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.stdout.split() == ["done"], result.stderr
    assert not result.stderr


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(door, "_failed", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def fail(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize("name", ["threading_layer", "get_num_threads"])
def test_a_numba_that_does_not_say(name, monkeypatch, said):
    monkeypatch.setattr(numba, name, fail(ZeroDivisionError("changed")))
    assert threads.launch() == "workqueue"
    assert len(said) == 1
    threads.launched()
    assert len(said) == 1


def test_no_threading_layer(monkeypatch, said):
    monkeypatch.setattr(numba, "get_num_threads", fail(ValueError("No threading layer could be loaded.")))
    assert threads.launch() == ""
    assert "No threading layer could be loaded" in str(said[0].message)


def test_a_lock_that_is_not_given_up(monkeypatch):
    """A fork does not wait for good; the child can take the lock."""
    program = """
import os, threading, time
from nbnorm.jit.internals import threads
from numba.core.compiler_lock import global_compiler_lock
threads.PATIENCE = 0.1
def hold():
    with global_compiler_lock:
        time.sleep(3)
thread = threading.Thread(target=hold)
thread.start()
time.sleep(0.2)
pid = os.fork()
if pid == 0:
    os._exit(0 if global_compiler_lock._lock.acquire(timeout=1) else 1)
print(os.waitpid(pid, 0)[1])
thread.join()
print(global_compiler_lock._lock.acquire(timeout=1))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.stdout.split() == ["0", "True"], result.stderr
