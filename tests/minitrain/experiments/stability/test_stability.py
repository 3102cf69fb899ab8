"""`minitrain stability` on tiny settings: what it writes, that runs repeat, that failures are results."""

import json
from dataclasses import replace

import numba
import pytest

from minitrain.experiments import stability
from minitrain.experiments.run import run_job
from minitrain.experiments.stability.stability import STABILITY
from minitrain.experiments.watch import Watch

pytest.importorskip("matplotlib")


def without_times(results):
    return {name: value for name, value in results.to_json().items() if name not in ("seconds", "environment")}


def test_writes_results_figures_and_report(outcome):
    folder, results = outcome
    assert {path.name for path in folder.iterdir()} == {
        "results.json",
        "report.html",
        "depth.png",
        "gradients_at_start.png",
        "gradients_in_training.png",
        "learning_rate.png",
        "initialization.png",
        "ioffe_szegedy.png",
        "other_norms.png",
    }

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert written == json.loads(json.dumps(results.to_json()))
    assert written["finished"] is True
    assert {"python", "numpy", "numba", "minitrain", "cores", "threads"} <= set(written["environment"])
    assert {*(each.name for each in STABILITY.experiments), "figures", "total"} == set(written["seconds"])
    assert written["settings"]["depth"]["depths"] == [3, 6]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads to compare")
def test_same_seed_same_numbers_for_any_number_of_threads(outcome, data, tiny, tmp_path):
    former = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        again = run_job(STABILITY, tmp_path, data, tiny, 0, show_progress=False)
    finally:
        numba.set_num_threads(former)
    assert without_times(again) == without_times(outcome[1])
    for name in ("depth.png", "ioffe_szegedy.png"):
        assert (tmp_path / name).read_bytes() == (outcome[0] / name).read_bytes()


def test_interrupt_keeps_what_was_finished(data, tiny, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    _, rates, scales, *_ = STABILITY.experiments
    job = replace(STABILITY, experiments=(rates, replace(scales, run=interrupted)))
    with pytest.raises(KeyboardInterrupt):
        run_job(job, tmp_path, data, tiny, 0, show_progress=False)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["finished"] is False
    assert list(results["experiments"]) == ["learning_rate"]
    assert "stopped before its end" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "learning_rate.png").exists()


def test_work_is_counted_to_the_last_step(data, tiny):
    watch = Watch(1)
    for experiment in STABILITY.experiments:
        experiment.run(data, tiny.of[experiment.name], 0, watch)
    assert watch.done == pytest.approx(sum(settings.work() for settings in tiny.of.values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"threads": 0}, "threads"),
        ({"threads": 10_000}, "threads"),
        ({"data": "letters"}, "name"),
    ],
)
def test_bad_arguments_are_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        stability.run(tmp_path, show_progress=False, **arguments)
