"""Processes that compile what is called next: a help, and never in the way."""

import fcntl
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from paths import ROOT

from nbnorm.jit import helpers, kernel, prange, serially
from nbnorm.jit.internals import cache as kernel_cache

# A script as people write them, without `if __name__ == "__main__"`.
SCRIPT = """
import time
import numpy as np
import nbnorm
from nbnorm.jit.internals.cache import cache_folder

print("started")
x = np.ones((8, 64, 64), "float32")
nbnorm.batch_norm_forward(x)
until = time.monotonic() + 100
while not list(cache_folder().rglob("*rows_backward*.nbc")) and time.monotonic() < until:
    time.sleep(0.05)
print(*sorted(path.name.split("-")[0] for path in cache_folder().rglob("*.nbc")))
"""


@kernel
def double(x, y):
    """y = 2 x"""
    for i in prange(x.size):
        y[i] = 2 * x[i]


@kernel
def broken(x, y):
    """Cannot be compiled."""
    for i in prange(x.size):
        y[i] = x.nothing


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


def test_the_backward_pass_is_compiled_while_the_forward_pass_is(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path), helpers.VARIABLE: "1"}
    result = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    first, last = result.stdout.splitlines()
    assert first == "started"
    assert last.split() == [
        "nbnorm.kernels.batch_norm.dispatch.channels_first.backward.backward",
        "nbnorm.kernels.batch_norm.dispatch.channels_first.forward.forward",
    ]
    assert result.stderr == ""


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
    monkeypatch.setattr(helpers, "start", lambda folder: offers.append(helpers._offer))
    with helpers.offered(nothing, 1), helpers.offered(nothing, 2):
        run(fresh().serial)
    assert offers == [(nothing, 1)]


@pytest.mark.parametrize("reason", ["zero", "serial", "no folder", "others have helpers", "cannot be pickled"])
def test_no_helpers(started, cache, monkeypatch, reason):
    offer = [nothing]
    if reason == "zero":
        monkeypatch.setenv(helpers.VARIABLE, "0")
    if reason == "no folder":
        monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    if reason == "cannot be pickled":
        offer.append(threading.Lock())
    folder = cache / "minitrain"
    folder.mkdir()
    with open(folder / "helpers.lock", "w") as lock, helpers.offered(*offer):
        if reason == "others have helpers":
            fcntl.flock(lock, fcntl.LOCK_EX)
        if reason == "serial":
            with serially():
                run(fresh())
        else:
            run(fresh().serial)
    assert not started


def place_of(dispatcher, *args):
    return dispatcher._cache._path(
        tuple(map(dispatcher.typeof_pyval, args)), dispatcher.targetdescr.target_context
    ).with_suffix(".lock")


def test_waiting_for_another_process_that_compiles_the_same(cache):
    waiting = fresh().serial
    place = place_of(waiting, np.ones(3), np.ones(3))
    place.parent.mkdir(parents=True)
    with open(place, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=run, args=(waiting,))
        thread.start()
        time.sleep(0.5)
        assert not waiting.overloads
    thread.join()
    assert waiting.overloads
    assert not list(cache.rglob("*[0-9a-f].lock"))


def test_patience_ends(cache, monkeypatch):
    monkeypatch.setattr(kernel_cache, "PATIENCE", 0.1)
    waiting = fresh().serial
    place = place_of(waiting, np.ones(3), np.ones(3))
    place.parent.mkdir(parents=True)
    with open(place, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(waiting)


def test_a_kernel_that_cannot_be_compiled_keeps_nobody_waiting(cache):
    with pytest.raises(Exception, match="nothing"):
        fresh(broken).serial(np.ones(3), np.ones(3))
    assert not kernel_cache._locks
    assert not list(cache.rglob("*.lock"))
