"""`minitrain norms`: what it writes, that it repeats, that its effects show on real digits, what its words say."""

import json
from dataclasses import replace

import numba
import numpy as np
import pytest

from minitrain.experiments.data import load_data
from minitrain.experiments.experiment import Settings
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import few_classes
from minitrain.experiments.norms.norms import NORMS
from minitrain.experiments.norms.studies.adaptation import CORRUPTIONS, AdaptationSettings
from minitrain.experiments.norms.studies.averages import AverageSettings
from minitrain.experiments.norms.studies.batch_size import BatchSizeSettings
from minitrain.experiments.norms.studies.few_classes import FewClassesSettings
from minitrain.experiments.norms.studies.ghosts import LONG, SHORT, GhostSettings
from minitrain.experiments.norms.studies.precise import PreciseSettings
from minitrain.experiments.norms.studies.ranks import LOCAL, SYNCHRONIZED, RankSettings
from minitrain.experiments.results import Results
from minitrain.experiments.run import run_job
from minitrain.experiments.watch import Watch

pytest.importorskip("matplotlib")
SMALL = {"depth": 4, "width": 4, "seeds": 2}
TINY = Settings(
    "tiny",
    {
        "batch_size": BatchSizeSettings(**SMALL, batch_sizes=(8, 2), images=24),
        "few_classes": FewClassesSettings(**SMALL, classes=(5, 2), batch_size=6, steps=4),
        "ghosts": GhostSettings(**SMALL, small_batch=4, large_batch=16, ghosts=(4, 16), steps=4),
        "ranks": RankSettings(**SMALL, ranks=(2, 3), samples=(3, 2), images=18),
        "precise": PreciseSettings(**SMALL, epochs=2, batch_size=10),
        "averages": AverageSettings(**SMALL, periods=(3.0, 30.0), steps=5),
        "adaptation": AdaptationSettings(**SMALL, steps=4, batch_size=8, strengths=(1, 5), tent_epochs=1),
    },
)


def by_name(name):
    return next(each for each in NORMS.experiments if each.name == name)


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("norms")
    return folder, run_job(NORMS, folder, data, TINY, 0, show_progress=False)


def test_writes_results_figures_and_report(outcome):
    folder, results = outcome
    names = [each.name for each in NORMS.experiments]
    assert {path.name for path in folder.iterdir()} == {"results.json", "report.html", *(f"{n}.png" for n in names)}
    written = json.loads((folder / "results.json").read_text())
    assert list(written["experiments"]) == names
    assert Results.from_json(written, NORMS).experiments == results.experiments
    page = (folder / "report.html").read_text()
    assert "What the words mean" not in page  # no run is called by one word
    assert all(figure.heading in page for each in NORMS.experiments for figure in each.figures)
    assert all(0 <= error <= 1 for each in results.experiments.values() for line in each.lines for errors in line.errors
               for error in errors)  # fmt: skip


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads to compare")
def test_same_seed_same_numbers_for_any_number_of_threads(outcome, data, tmp_path):
    former = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        again = run_job(NORMS, tmp_path, data, TINY, 0, show_progress=False)
    finally:
        numba.set_num_threads(former)
    assert again.experiments == outcome[1].experiments


def test_work_is_counted_to_the_last_step(data):
    watch = Watch(1)
    for experiment in NORMS.experiments:
        experiment.run(data, TINY.of[experiment.name], 0, watch)
    assert watch.done == pytest.approx(sum(settings.work() for settings in TINY.of.values()))


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_data("digits", None, 0)


def result(name, digits, **changes):
    experiment = by_name(name)
    return experiment.run(digits, replace(experiment.quick, **changes), 0, Watch(1))


def test_new_statistics_help_nets_with_batch_norm_on_other_contrast(digits):
    found = result("adaptation", digits, steps=100, strengths=(4,), tent_epochs=1)
    for panel in ("contrast", "brightness"):
        trained, adapted = (found.of(f"batch norm, {name}", panel).at(4) for name in ("as trained", "statistics"))
        assert adapted < 0.7 * trained
    assert "of the corrupted images" in by_name("adaptation").figures[0].say(found)


def test_long_averages_need_to_forget_what_they_started_from(digits):
    found = result("averages", digits, steps=150, periods=(30.0, 1000.0))
    plain, debiased = found.of("plain"), found.of("without bias")
    assert plain.at(1000) > debiased.at(1000) + 0.02
    assert "Without the bias" in by_name("averages").figures[0].say(found)


def test_slow_averages_lag_behind_precise_statistics(digits):
    slow, exact = (result("precise", digits, epochs=2).of(name) for name in ("running, momentum 0.01", "precise"))
    assert np.mean(slow.means) > np.mean(exact.means) + 0.05


def test_a_large_batch_wants_updates(digits):
    found = result("ghosts", digits, steps=32, large_batch=256, ghosts=(32, 256))
    assert found.of(SHORT).at(256) > found.of(LONG).at(256) + 0.1


def test_synchronized_statistics_help_ranks_of_two_samples(digits):
    found = result("ranks", digits, images=400, ranks=(4,), samples=(2,))
    assert found.of(LOCAL, "4 ranks").at(2) > found.of(SYNCHRONIZED, "4 ranks").at(2) + 0.05


def test_batches_of_few_classes(data):
    drawn = few_classes(data, 7, 3, 0)
    for _ in range(5):
        x, y = next(drawn)
        assert sorted(np.unique(y, return_counts=True)[1]) == [2, 2, 3]
        assert len(x) == 7


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_and_repeat(name):
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8))
    before, corrupt = x.copy(), CORRUPTIONS[name]
    changes = [np.abs(corrupt(x, strength) - x).mean() for strength in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[0] > 0
    np.testing.assert_array_equal(corrupt(x, 3), corrupt(x, 3))
    np.testing.assert_array_equal(x, before)


def lines(values, panel="", **errors):
    return Lines([Line(panel, name.replace("_", " "), list(values), [[e] for e in each])
                  for name, each in errors.items()])  # fmt: skip


def test_words_follow_the_numbers():
    say = {each.name: each.figures[0].say for each in NORMS.experiments}
    others = {"layer_norm": (0.1, 0.1), "instance_norm": (0.1, 0.1), "filter_response_norm": (0.1, 0.1)}
    papers = lines((32, 2), batch_norm=(0.05, 0.4), group_norm=(0.06, 0.06), batch_renorm=(0.05, 0.2), **others)
    assert "as Wu & He 2018 found" in say["batch_size"](papers)
    assert "Renormalization takes 20 %" in say["batch_size"](papers)
    other = lines((32, 2), batch_norm=(0.05, 0.05), group_norm=(0.06, 0.06), batch_renorm=(0.05, 0.05), **others)
    assert "not what Wu & He 2018 found" in say["batch_size"](other)
    papers = lines((10, 2), batch_norm=(0.05, 0.4), batch_renorm=(0.05, 0.1), group_norm=(0.1, 0.05))
    assert "as Ioffe 2017 found" in say["few_classes"](papers)
    assert "stays better than both" in say["few_classes"](papers)
    other = lines((10, 2), batch_norm=(0.05, 0.1), batch_renorm=(0.05, 0.1), group_norm=(0.1, 0.7))
    assert "not what Ioffe 2017 found" in say["few_classes"](other)
    few = Lines([Line("2 ranks", kind, [4.0, 2.0], [[0.1], [error]]) for kind, error in
                 ((SYNCHRONIZED, 0.1), (LOCAL, 0.3))])  # fmt: skip
    assert "what Wu & He 2018 found batch norm to lose" in say["ranks"](few)
    assert "no difference here" in say["ranks"](Lines([replace(each, errors=[[0.1], [0.1]]) for each in few.lines]))
    ghosts = Lines([
        *lines((16, 1024), small_batch=(0.02, 0.02)).lines,
        Line("", SHORT, [16.0, 1024.0], [[0.1], [0.4]]), Line("", LONG, [16.0, 1024.0], [[0.02], [0.3]]),
    ])  # fmt: skip
    assert "With few updates ghosts help" in say["ghosts"](ghosts)
    assert "as Hoffer et al. 2017 found" in say["ghosts"](ghosts)
