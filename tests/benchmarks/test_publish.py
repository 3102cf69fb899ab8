"""The page of the results: trends, regressions, nothing from the network."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asv")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import publish

STEPS = "benchmark_nets.TrainingStep.time_step"
SPEED = "benchmark_batch_norm.Bandwidth.track_gigabytes_per_second"
CALLS = "benchmark_batch_norm.Calls.time_100_calls_forward"
COMMITS = [f"{number:08x}" * 5 for number in range(1, 15)]
SINCE = 8  # the commit that is slower


def write_results(folder):
    """Fourteen commits on one machine; lenet takes 30 % longer from the ninth on, and reads at 2/3 of the speed."""
    noise = np.random.default_rng(0).normal(1, 0.01, (len(COMMITS), 4))
    benchmarks = {
        name: {"name": name, "unit": unit, "params": params, "param_names": ["which"][: len(params)], "version": "1"}
        for name, unit, params in (
            (STEPS, "seconds", [["'mlp'", "'lenet'"]]),
            (SPEED, "GB/s", [["'copy'"]]),
            (CALLS, "seconds", []),
        )
    }
    (folder / "this machine").mkdir(parents=True)
    (folder / "benchmarks.json").write_text(json.dumps({**benchmarks, "version": 2}))
    about = {"machine": "this machine", "cpu": "<some> cpu", "num_cpu": "4", "os": "Linux", "version": 1}
    (folder / "this machine" / "machine.json").write_text(json.dumps(about))
    for number, commit in enumerate(COMMITS):
        slow = number >= SINCE
        values = {
            STEPS: [0.0006 * noise[number, 0], 0.008 * noise[number, 1] * (1.3 if slow else 1)],
            SPEED: [60 * noise[number, 2] / (1.5 if slow else 1)],
            CALLS: [None if number == 3 else 0.0004 * noise[number, 3]],
        }
        write_run(
            folder, about, number, commit, {name: [values[name], benchmarks[name]["params"], "1"] for name in values}
        )


def write_run(folder, about, number, commit, results):
    content = {
        "commit_hash": commit,
        "env_name": "virtualenv-py3.11",
        "date": 1_790_000_000_000 + 86_400_000 * number,
        "params": about,
        "python": "3.11",
        "requirements": {},
        "env_vars": {},
        "result_columns": ["result", "params", "version"],
        "results": results,
        "durations": {},
        "version": 2,
    }
    (folder / "this machine" / f"{commit[:8]}-virtualenv-py3.11.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asv")
    write_results(folder / "results")
    (machine,) = publish.publish(folder / "results", folder / "pages")
    return machine, folder / "pages"


def test_regressions_are_found_and_improvements_are_not(published):
    machine, _ = published
    found = {(trend.name, each.parameters): each for trend in machine.trends for each in trend.regressions}
    assert found.keys() == {(STEPS, "lenet"), (SPEED, "copy")}
    assert {each.position for each in found.values()} == {SINCE}
    assert found[STEPS, "lenet"].factor == pytest.approx(1.3, rel=0.03)
    assert found[SPEED, "copy"].factor == pytest.approx(1 / 1.5, rel=0.03)  # fewer GB/s are worse


def test_missing_values_stay_missing(published):
    machine, _ = published
    (values,) = next(trend.series for trend in machine.trends if trend.name == CALLS).values()
    assert np.flatnonzero(np.isnan(values)).tolist() == [3]


def test_page_needs_nothing_but_its_images(published):
    _, pages = published
    text = (pages / "index.html").read_text()
    sources = re.findall("src='([^']*)'", text)
    assert len(sources) == 3
    for source in sources:
        assert (pages / source).read_text().lstrip().startswith("<?xml")
    assert "<script" not in text
    assert "//" not in text
    assert "&lt;some&gt; cpu" in text
    assert f"<td>{COMMITS[SINCE][:8]}" in text


def test_no_results_is_said(tmp_path, capsys):
    assert publish.main(["--results", str(tmp_path)]) == 2
    assert "run asv first" in capsys.readouterr().err
