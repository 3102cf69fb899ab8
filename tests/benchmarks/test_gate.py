"""The gate on made-up times, and its processes on this checkout. Nothing here depends on how fast the machine is."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("threadpoolctl")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are not installed

from benchmarks import gate, gate_worker  # noqa: E402

CASE = "batch norm forward, 64x128, 1 thread"


def times_of(ratio, seed, pairs=9, rounds=12):
    """Times with noise as on a shared machine: each process has a speed of its own, one run in five is interrupted."""
    rng = np.random.default_rng(seed)

    def process(time):
        runs = time * rng.lognormal(0, 0.01) * rng.lognormal(0, 0.02, rounds)
        return list(np.where(rng.random(rounds) < 0.2, runs + rng.exponential(time, rounds), runs))

    return gate.Comparison("case", [(process(1e-3), process(ratio * 1e-3)) for _ in range(pairs)])


def test_a_slow_down_is_seen_and_noise_is_not():
    assert {times_of(1.2, seed).verdict() for seed in range(10)} == {"SLOWER"}
    assert {times_of(1.0, seed).verdict() for seed in range(10)} == {"no"}


def test_ratio_lies_in_its_interval():
    comparison = times_of(1.3, 0)
    lower, upper = comparison.interval()
    assert lower < comparison.ratio < upper
    assert comparison.ratio == pytest.approx(1.3, rel=0.05)
    assert "1.3" in str(comparison) or "1.2" in str(comparison)


def test_suspects_are_measured_again_until_it_is_clear(monkeypatch, tmp_path, capsys):
    measured = []

    def compare(trees, cases, pairs, rounds, cache):
        measured.append(list(cases))
        unlucky, unclear = (1.3 if len(measured) == 1 else 1.0), (1.3 if len(measured) % 2 else 0.9)
        ratios = {"same": 1.0, "slower": 1.3, "unlucky": unlucky, "unclear": unclear}
        return [gate.Comparison(case, times_of(ratios[case], len(measured), pairs).pairs) for case in cases]

    monkeypatch.setattr(gate, "compare", compare)
    found = gate.judge((tmp_path, tmp_path), ["same", "slower", "unlucky", "unclear"], 3, 12, tmp_path)
    assert [(each.case, each.verdict()) for each in found] == [
        ("slower", "SLOWER"),
        ("unlucky", "no"),
        ("unclear", "unclear"),
    ]
    assert measured[1] == ["slower", "unlucky", "unclear"]
    assert measured[-1] == ["unclear"]
    assert len(measured) == 1 + gate.MOST_BATCHES
    assert "SLOWER" in capsys.readouterr().out


def test_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(gate, "run", lambda options, cases: [times_of(1.0, 0)])
    assert gate.main(["main"]) == 0
    monkeypatch.setattr(gate, "run", lambda options, cases: [times_of(1.3, 0)])
    assert gate.main(["main"]) == 1
    assert "SLOWER: case (1." in capsys.readouterr().out
    assert gate.main(["main", "--only", "no such case"]) == 2


def test_unknown_commit_is_said(capsys):
    assert gate.main(["no-such-commit"]) == 2
    assert "no-such-commit" in capsys.readouterr().err


def test_worker_answers_from_its_tree(monkeypatch, tmp_path):
    cache = Path(gate_worker.os.environ.get("NUMBA_CACHE_DIR", tmp_path))
    with gate_worker.Worker(ROOT, cache) as worker:
        calls = worker.prepare(CASE)
        assert 1 <= calls <= gate_worker.MOST_CALLS
        assert worker.run(2) > 0
        assert worker.prepare("no such case") == 0


def test_worker_that_fails_is_an_error(tmp_path):
    (tmp_path / "nbnorm.py").write_text("raise ImportError('broken on purpose')")
    with gate_worker.Worker(tmp_path, tmp_path) as worker, pytest.raises(gate_worker.WorkerError, match="ended"):
        worker.prepare(CASE)


def test_case_that_the_old_tree_cannot_run_is_left_out(capsys):
    class Fake:
        def __init__(self, calls):
            self.prepare = lambda case: calls
            self.run = lambda calls: 1e-3

    assert gate.alternate((Fake(0), Fake(5)), "case", 3) is None
    assert "old tree" in capsys.readouterr().out
    assert gate.alternate((Fake(4), Fake(5)), "case", 3) == ([1e-3] * 3, [1e-3] * 3)
    with pytest.raises(gate_worker.WorkerError, match="new tree"):
        gate.alternate((Fake(4), Fake(0)), "case", 3)


def test_cases_are_benchmarks():
    for module, name, method, params in gate_worker.CASES.values():
        benchmark = getattr(gate_worker.importlib.import_module(f"benchmarks.{module}"), name)
        assert callable(getattr(benchmark, method))
        for value, values in zip(params, benchmark.params, strict=True):
            assert value in values
