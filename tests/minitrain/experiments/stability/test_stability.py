"""The stability experiments on tiny settings: what they write, that runs repeat, that failures are results."""

import json
import math

import numba
import numpy as np
import pytest

from minitrain import Input, Model, layers
from minitrain.experiments import training
from minitrain.experiments.data import standardize
from minitrain.experiments.nets import plain_net, sigmoid_net, weight_names
from minitrain.experiments.stability import stability
from minitrain.experiments.stability.studies import depth, initialization, ioffe_szegedy, learning_rate
from minitrain.experiments.watch import PlainWatch, Watch

pytest.importorskip("matplotlib")

TINY = stability.Settings(
    name="tiny",
    depth=depth.DepthSettings(
        nets=(
            depth.NetSettings("dense", width=6, batch_size=8, learning_rates=(0.01, 0.1), seeds=2),
            depth.NetSettings("conv", width=2, batch_size=8, learning_rates=(0.01, 0.1), seeds=2),
        ),
        depths=(3, 6),
        steps=6,
        probes=4,
    ),
    learning_rate=learning_rate.RateSettings(
        depth=3, width=6, learning_rates=(0.01, 1e30), seeds=2, steps=6, batch_size=8
    ),
    initialization=initialization.ScaleSettings(depth=3, width=6, scales=(0.1, 10.0), seeds=1, steps=6, batch_size=8),
    ioffe_szegedy=ioffe_szegedy.SigmoidSettings(hidden=(7, 7), seeds=2, steps=8, batch_size=8, measurements=4),
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 10
    x = rng.standard_normal((40, 1, 8, 8)).astype(np.float32) + y[:, None, None, None]
    return standardize("made", x[:30], y[:30], x[30:], y[30:])


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stability")
    return folder, stability.run_settings(folder, data, TINY, 0, show_progress=False)


def without_times(results):
    return {name: value for name, value in results.items() if name not in ("seconds", "environment")}


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
    }

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert written == json.loads(json.dumps(results))
    assert written["finished"] is True
    assert {"python", "numpy", "numba", "minitrain", "cores", "threads"} <= set(written["environment"])
    assert {"depth", "learning_rate", "initialization", "ioffe_szegedy", "figures", "total"} == set(written["seconds"])
    assert written["settings"]["depth"]["depths"] == [3, 6]


def test_depth_results_hold_every_net_and_layer(outcome):
    nets = outcome[1]["experiments"]["depth"]["nets"]
    assert len(nets) == 2 * 2 * 2 * 2
    for net in nets:
        assert len(net["runs"]) == 2
        assert len(net["other_rates"]) == 1
        first, second = (run["gradients"] for run in net["runs"])
        assert len(first["weights"]) == net["depth"]
        assert first["steps"][0] == 0
        assert first["steps"][-1] == 6
        assert second["steps"] == [0]
        assert all(len(row) == net["depth"] for row in first["norms"])
        assert all(run["outcome"] in training.OUTCOMES for run in net["runs"])
        assert net["runs"][0]["final_training_loss"] <= net["other_rates"][0]["final_training_loss"]


def test_divergence_is_recorded(outcome):
    result = outcome[1]["experiments"]["learning_rate"]
    entry = result["without"][1]
    assert entry["value"] == 1e30
    assert {run["outcome"] for run in entry["runs"]} == {"diverged"}
    assert all(run["steps"] < 6 and run["final_training_loss"] is None for run in entry["runs"])
    assert result["summary"]["without"]["all_diverged"] == [1e30]


def test_percentiles_are_in_order(outcome):
    for side in ("with", "without"):
        for run in outcome[1]["experiments"]["ioffe_szegedy"][side]["runs"]:
            low, middle, high = (np.array(run["percentiles"][name]) for name in ("15", "50", "85"))
            assert len(run["measured_at"]) == len(run["accuracy"]) == len(low) == 5
            assert (low <= middle).all()
            assert (middle <= high).all()
            assert len(run["drift_of_units"]) == 7
            assert run["drift_of_units"][run["typical_unit"]] == sorted(run["drift_of_units"])[3]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads to compare")
def test_same_seed_same_numbers_for_any_number_of_threads(outcome, data, tmp_path):
    former = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        again = stability.run_settings(tmp_path, data, TINY, 0, show_progress=False)
    finally:
        numba.set_num_threads(former)
    assert without_times(again) == without_times(outcome[1])
    for name in ("depth.png", "ioffe_szegedy.png"):
        assert (tmp_path / name).read_bytes() == (outcome[0] / name).read_bytes()


def test_another_seed_gives_other_numbers(outcome, data):
    other = learning_rate.run(data, TINY.learning_rate, 7, Watch(1))
    assert other["with"] != outcome[1]["experiments"]["learning_rate"]["with"]


def test_twins_start_from_the_same_weights():
    for kind in ("dense", "conv"):
        options = {"image_shape": (1, 8, 8), "classes": 10, "width": 4, "seed": 3}
        with_norm, without = (plain_net(kind, "relu", 7, batch_norm=flag, **options) for flag in (True, False))
        assert weight_names(with_norm) == weight_names(without)
        assert len(weight_names(without)) == 7
        for name in weight_names(without):
            np.testing.assert_array_equal(with_norm.params[name], without.params[name])
        assert sum(name.endswith("gamma") for name in with_norm.params) == 6
        larger = plain_net(kind, "relu", 7, batch_norm=True, weight_scale=10.0, **options)
        for name in weight_names(larger):
            np.testing.assert_allclose(larger.params[name], 10 * with_norm.params[name], rtol=1e-5)


def test_sigmoid_net_starts_from_small_gaussian_weights():
    net = sigmoid_net(batch_norm=False, image_shape=(1, 8, 8), classes=10, hidden=(100, 100, 100), std=0.1, seed=0)
    assert [net.params[name].shape for name in weight_names(net)] == [(100, 64), (100, 100), (100, 100), (10, 100)]
    assert abs(net.params["dense2.weight"].std() - 0.1) < 0.005


@pytest.mark.parametrize(
    ("loss", "accuracy", "expected"),
    [
        (None, 0.99, "diverged"),
        (1e4, 0.1, "diverged"),
        (math.log(10), 0.1, "chance"),
        (1.5, 0.3, "partly"),
        (0.1, 0.5, "trained"),
    ],
)
def test_outcomes(loss, accuracy, expected):
    assert training.classify(loss, accuracy, math.log(10)) == expected


def test_batches_are_whole_and_repeat(data):
    first = list(training.batches(data, 8, 7, seed=1))
    again = list(training.batches(data, 8, 7, seed=1))
    assert len(first) == 7
    assert all(len(x) == 8 for x, _ in first)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    epoch = np.concatenate([y for _, y in first[:3]])
    assert len(epoch) == 24
    assert (np.bincount(epoch, minlength=10) <= 3).all()
    assert len(list(training.batches(data, 1000, 2, seed=1))) == 2


def test_drift_counts_widths():
    percentiles = np.zeros((2, 3, 1))
    percentiles[:, 0], percentiles[:, 2] = -1, 1
    percentiles[1] += 4
    np.testing.assert_allclose(ioffe_szegedy.drifts(percentiles), [2.0])


def test_largest_stable_rate_needs_every_seed():
    def runs(*outcomes):
        return [{"outcome": outcome} for outcome in outcomes]

    summary = learning_rate.summarize(
        {
            "without": [
                {"value": 0.1, "runs": runs("trained", "trained")},
                {"value": 1.0, "runs": runs("trained", "diverged")},
            ],
            "with": [
                {"value": 0.1, "runs": runs("chance", "trained")},
                {"value": 1.0, "runs": runs("trained", "trained")},
            ],
        }
    )
    assert summary["without"]["largest_stable"] == 0.1
    assert summary["without"]["some_diverged"] == [1.0]
    assert summary["with"]["at_the_end"]
    assert summary["ratio"] == 10.0


def test_interrupt_keeps_what_was_finished(data, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    without_depth = {name: module for name, module in stability.EXPERIMENTS.items() if name != "depth"}
    monkeypatch.setattr(stability, "EXPERIMENTS", without_depth)
    monkeypatch.setattr(initialization, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stability.run_settings(tmp_path, data, TINY, 0, show_progress=False)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["finished"] is False
    assert list(results["experiments"]) == ["learning_rate"]
    assert "stopped before its end" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "learning_rate.png").exists()


def test_plain_watch_prints_names_and_time_left(capsys):
    watch = PlainWatch(100)
    watch.experiment("depth")
    watch.run(5)
    watch.step(10)
    watch.experiment("learning rate")
    printed = capsys.readouterr().out
    assert "0%  depth" in printed
    assert "50%  learning rate, about" in printed


def test_work_is_counted_to_the_last_step(data):
    watch = Watch(1)
    for name, module in stability.EXPERIMENTS.items():
        module.run(data, getattr(TINY, name), 0, watch)
    expected = sum(module.work(getattr(TINY, name)) for name, module in stability.EXPERIMENTS.items())
    assert watch.done == pytest.approx(expected)


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


def test_weight_names_are_in_order():
    x = Input((3,))
    model = Model(x, layers.Dense(2, name="a")(layers.Dense(3, name="z")(x)))
    assert weight_names(model) == ["z.weight", "a.weight"]
