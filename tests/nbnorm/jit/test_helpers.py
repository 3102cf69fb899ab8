"""Processes that compile what is called next: a help, and never in the way."""

import fcntl
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from paths import ROOT

from nbnorm.jit import helpers, kernel, prange, serially

# A script as people write them, without `if __name__ == "__main__"`.
SCRIPT = """
import subprocess
import time
import numpy as np
import nbnorm
from nbnorm.jit.helpers import offered
from nbnorm.jit.internals.cache import cache_folder
from calls import of_backward

print("started")
x = np.ones((8, 64, 64), "float32")
with offered(of_backward, 1, {how_many}):
    nbnorm.batch_norm_forward(x)
until = time.monotonic() + 100
while not list(cache_folder().rglob("backward*.nbc")) and time.monotonic() < until:
    time.sleep(0.05)
print(*sorted(path.parts[-3] for path in cache_folder().rglob("*.nbc")))
"""
CALLS = """
from functools import partial
import numpy as np
import nbnorm

def of_backward(value):
    x = np.full((8, 64, 64), value, "float32")
    stats = nbnorm.BatchNormStats(np.zeros(64), np.ones(64))
    return [partial(nbnorm.batch_norm_backward, x, x, stats)]
"""


@kernel
def double(x, y):
    """y = 2 x"""
    for i in prange(x.size):
        y[i] = 2 * x[i]


def nothing():
    return []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def started(cache, monkeypatch):
    """The commands of helpers that would have been started."""
    commands = []

    def refuse(command, **_):
        commands.append(command)
        raise OSError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setenv(helpers.VARIABLE, "2")
    return commands


def fresh(function=double):
    return kernel(function.function)


def run(form):
    x, y = np.ones(3), np.zeros(3)
    form(x, y)
    assert y.tolist() == [2, 2, 2]


@pytest.mark.parametrize("how_many", ["", "processes=1"])
def test_what_comes_next_is_compiled_meanwhile(tmp_path, how_many):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(how_many=how_many))
    (tmp_path / "calls.py").write_text(CALLS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    environment[helpers.VARIABLE] = "0" if how_many else "1"  # what the program says counts
    result = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    first, last = result.stdout.splitlines()
    assert first == "started"
    assert last.split() == [
        "nbnorm.kernels.batch_norm.channels_first.backward",
        "nbnorm.kernels.batch_norm.channels_first.forward",
    ]
    assert result.stderr == ""


def test_a_call_of_nbnorm_starts_no_process(tmp_path):
    program = """
import os, subprocess
import numba, numpy as np, numpy.testing, scipy.linalg  # some of their versions ask a program what processor this is
def refuse(*_, **__):
    print("started")
    raise OSError
subprocess.Popen.__init__ = os.fork = os.posix_spawn = refuse
import nbnorm
x = np.ones((2, 3, 4), "float32")
y, stats = nbnorm.batch_norm_forward(x)
nbnorm.batch_norm_backward(x, x, stats)
print("done")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path), helpers.VARIABLE: "2"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.stdout.split() == ["done"], result.stderr


def test_helpers_start_with_the_first_kernel_that_is_compiled(started):
    run(fresh().serial)
    assert not started  # nothing was offered
    with helpers.offered(nothing):
        run(fresh().serial)
        assert not started  # it was in the cache
        run(fresh().parallel)
        assert len(started) == 1  # the second was not tried after the first could not start
        run(lambda x, y: fresh().serial(x.astype("f4"), y))
        assert len(started) == 1
    run(lambda x, y: fresh().serial(x, y.astype("f4")) or np.copyto(y, 2))
    assert len(started) == 1


def test_a_block_within_a_block_offers_nothing(started, monkeypatch):
    offers = []
    monkeypatch.setattr(helpers, "_start", lambda offer, count, folder: offers.append((offer, count)))
    with helpers.offered(nothing, 1, processes=3), helpers.offered(nothing, 2):
        run(fresh().serial)
        run(fresh().parallel)
    run(lambda x, y: fresh().serial(x.astype("f4"), y))
    assert offers == [((nothing, 1), 3)]


@pytest.mark.parametrize(
    "reason", ["zero", "none wanted", "serial", "no folder", "others have helpers", "cannot be pickled"]
)
def test_no_helpers(started, cache, monkeypatch, reason):
    offer = [nothing]
    if reason == "zero":
        monkeypatch.setenv(helpers.VARIABLE, "0")
    processes = 0 if reason == "none wanted" else None
    if reason == "no folder":
        monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    if reason == "cannot be pickled":
        offer.append(threading.Lock())
    folder = cache / "nbnorm"
    folder.mkdir()
    with open(folder / "helpers.lock", "w") as lock, helpers.offered(*offer, processes=processes):
        if reason == "others have helpers":
            fcntl.flock(lock, fcntl.LOCK_EX)
        if reason == "serial":
            with serially():
                run(fresh())
        else:
            run(fresh().serial)
    assert not started
