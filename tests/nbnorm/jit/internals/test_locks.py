"""Processes that need the same kernel at the same time compile it once."""

import fcntl
import os
import threading
import time

import numpy as np
import pytest

from nbnorm.jit import kernel, prange
from nbnorm.jit.internals import locks


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def fresh(function=double):
    return kernel(function.function)


def run(form):
    x, y = np.ones(3), np.zeros(3)
    form(x, y)
    assert y.tolist() == [2, 2, 2]


def lock_of(dispatcher, *args):
    stored = dispatcher._cache
    stored.target_context = dispatcher.targetdescr.target_context
    path = stored.path(tuple(map(dispatcher.typeof_pyval, args))).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    return path


def test_waiting_for_another_process_that_compiles_the_same(cache):
    waiting = fresh().serial
    with open(lock_of(waiting, np.ones(3), np.ones(3)), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=run, args=(waiting,))
        thread.start()
        time.sleep(0.5)
        assert not waiting.overloads
    thread.join()
    assert waiting.overloads
    assert not list(cache.rglob("*[0-9a-f].lock"))


def test_patience_ends(cache, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    waiting = fresh().serial
    with open(lock_of(waiting, np.ones(3), np.ones(3)), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(waiting)


def test_a_kernel_that_cannot_be_compiled_keeps_nobody_waiting(cache):
    with pytest.raises(Exception, match="nothing"):
        fresh(broken).serial(np.ones(3), np.ones(3))
    assert not locks._held
    assert not list(cache.rglob("*.lock"))


def test_who_is_busy_is_told(tmp_path):
    class GivesUpError(Exception):
        pass

    def give_up():
        raise GivesUpError

    with open(tmp_path / "a.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(GivesUpError):
            locks.begin(tmp_path / "a.nbc", give_up)
    assert locks.begin(tmp_path / "a.nbc", give_up)
    locks.release()
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize("reason", ["no folder", "no locks", "no fcntl"])
def test_where_nothing_can_be_locked(tmp_path, monkeypatch, reason):
    def refuse(*_):
        raise OSError

    path = tmp_path / "a.nbc"
    if reason == "no folder":
        path = tmp_path / "nowhere" / "a.nbc"
    elif reason == "no locks":
        monkeypatch.setattr(fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(locks, "fcntl", None)
    assert not locks.begin(path, lambda: None)
    assert not locks._held


def test_a_forked_child_neither_keeps_nor_ends_what_its_parent_locked(tmp_path):
    assert locks.begin(tmp_path / "a.nbc", lambda: None)
    pid = os.fork()
    if pid == 0:
        locks.release()
        os._exit(len(locks._held))
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "a.lock").exists()
    with open(tmp_path / "a.lock") as again, pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    locks.release()
