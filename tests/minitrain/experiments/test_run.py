"""An experiment is one record: naming it in a job is all that puts it everywhere."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from minitrain.experiments.experiment import Experiment, ExperimentSettings, Figure
from minitrain.experiments.record import Record
from minitrain.experiments.results import Results
from minitrain.experiments.run import run_job
from minitrain.experiments.stability.stability import STABILITY
from minitrain.experiments.style import new_figure

pytest.importorskip("matplotlib")


@dataclass(frozen=True)
class CountSettings(ExperimentSettings):
    most: int = 5

    def work(self):
        return float(self.most)


@dataclass(frozen=True)
class Counts(Record):
    labels: list[int]


def count(data, settings, seed, watch):
    watch.step(settings.most)
    return Counts(np.bincount(data.y_train)[: settings.most].tolist())


def draw(result, data):
    figure = new_figure(3, 2)
    figure.subplots().plot(result.labels)
    return figure


LABELS = Experiment(
    name="labels",
    title="counting labels",
    full=CountSettings(),
    quick=CountSettings(most=2),
    run=count,
    result=Counts,
    figures=(Figure("labels_bar", "Labels & counts", "A line.", draw, lambda result: f"Counts: {result.labels}."),),
    rows=lambda result: [("labels counted", str(len(result.labels)), "all")],
    choices=lambda settings: [f"The first {settings.most} labels are counted."],
)


def test_one_entry_puts_an_experiment_everywhere(data, tmp_path, capsys):
    scales = STABILITY.experiments[2]
    tiny = replace(scales.quick, depth=3, width=6, scales=(1.0,), steps=3, batch_size=8)
    job = replace(STABILITY, experiments=(replace(scales, quick=tiny), LABELS))
    run_job(job, tmp_path, data, job.settings(quick=True), 0, show_progress=True)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["experiments"]["labels"] == {"labels": [3, 3]}
    assert written["settings"]["labels"] == {"most": 2}
    assert set(written["seconds"]) == {"initialization", "labels", "figures", "total"}
    assert Results.from_json(written, job).experiments["labels"] == Counts([3, 3])
    assert (tmp_path / "labels_bar.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    for part in (
        "<h2>Labels &amp; counts</h2>\n<p>Counts: [3, 3].</p>",  # the figure's section
        "<td>labels counted</td><td>2</td><td>all</td>",  # the summary
        "<li>The first 2 labels are counted.</li>",
        "<td>most</td><td></td><td>2</td>",  # the settings
        "<td>seconds, labels</td>",
    ):
        assert part in page
    printed = capsys.readouterr().out
    assert "counting labels" in printed  # the progress
    assert "labels counted" in printed
