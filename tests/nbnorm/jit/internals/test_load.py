"""What is read of other programs' load, from planted files and from this machine."""

import os
import time

import pytest

from nbnorm.jit.internals import load
from nbnorm.jit.internals.load import Reading, read_load

TEXT = """cpu  900 0 0 4000 20 0 0 0 0 0
cpu0 300 0 0 1000 5 0 0 0 0 0
cpu1 300 0 0 1500 10 0 0 0 0 0
cpu2 300 0 0 1500 5 0 0 0 0 0
intr 5
"""


@pytest.mark.parametrize(("cores", "ticks"), [({0}, 1005), ({0, 1}, 2515), ({0, 1, 2}, 4020)])
def test_idle_time_of_the_cores_that_may_be_used(cores, ticks, tmp_path, monkeypatch):
    (tmp_path / "stat").write_text(TEXT)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores, raising=False)
    assert read_load(tmp_path / "stat").idle == ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("text", ["", "cpu0 1 2", "cpu0 1 2 3 x 5", "cpu 1 2 3 4 5", "cpu7 1 2 3 4 5 6"])
def test_what_cannot_be_read_says_nothing(text, tmp_path, monkeypatch):
    (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert read_load(tmp_path / "stat") is None
    assert read_load(tmp_path / "nothing") is None


def test_free_cores():
    assert Reading(3.0, 10.5, 4.0).free_cores(Reading(1.0, 9.5, 2.0)) == 1.5


@pytest.mark.skipif(not load.STAT.exists(), reason="the system does not say")
def test_this_machine():
    before = read_load()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    free = read_load().free_cores(before)
    assert 0.0 < free < len(os.sched_getaffinity(0)) + 0.5
