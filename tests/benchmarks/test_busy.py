"""Steps beside busy processes: everyone is timed beside every load, and all is as before afterwards."""

import math
import os
import sys
from pathlib import Path

import numba
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import peers_busy
from nbnorm.jit.sharing import sharing


def test_every_load_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(peers_busy, "BLOCK", 0.01)
    monkeypatch.setattr(peers_busy, "ROUNDS", 2)
    threads = numba.get_num_threads()
    try:
        rows = peers_busy.run(nets=["digits-mlp"], peers=["none"])["busy"]
    finally:
        sharing.enable(True)
    cores = os.cpu_count()
    assert [row["busy"] for row in rows] == sorted({0, cores - 1, cores})
    for row in rows:
        for way in (peers_busy.OURS, peers_busy.ALL, peers_busy.ONE):
            assert 0 < row[way]["median"] <= row[way]["worst"] < math.inf
        assert "PyTorch" not in row
    assert numba.get_num_threads() == threads
    assert "ours / one thread" in capsys.readouterr().out


def test_busy_processes_end_with_the_block():
    with pytest.raises(ZeroDivisionError), peers_busy.spinning(2):
        raise ZeroDivisionError
