"""The report of the stability experiments: sentences follow the numbers, the file needs nothing but itself."""

import copy
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser

import pytest

from minitrain.experiments.stability.page import FIGURES, render
from minitrain.experiments.stability.stability import FULL
from minitrain.experiments.stability.words import statements
from minitrain.experiments.stability.words.summary import print_table, summary_rows
from minitrain.experiments.training import OUTCOMES

pytest.importorskip("matplotlib")

KINDS = [("dense", "relu"), ("dense", "sigmoid"), ("conv", "relu"), ("conv", "sigmoid")]
PNG = b"\x89PNG not really"


def made_run(accuracy, outcome=None, seed=0, loss=0.5):
    outcome = outcome or ("trained" if accuracy >= 0.5 else "chance")
    return {
        "seed": seed,
        "outcome": outcome,
        "steps": 10,
        "final_training_loss": None if outcome == "diverged" else loss,
        "test_loss": None if outcome == "diverged" else 2 * loss,
        "test_accuracy": accuracy,
        "training_loss": [[10, loss]],
    }


def made_net(kind, activation, depth, batch_norm):
    """With batch norm all are trained and gradients stay; without, the deep ones are not and gradients vanish."""
    good = batch_norm or depth < 10
    factor = 1.0 if batch_norm else 0.1
    norms = [factor ** (depth - layer) for layer in range(1, depth + 1)]
    gradients = {"weights": [f"w{i}" for i in range(depth)], "steps": [0, 10], "norms": [norms, norms]}
    runs = [{**made_run((0.93 if good else 0.1) + 0.01 * seed, seed=seed), "gradients": gradients} for seed in (0, 1)]
    return {
        "kind": kind,
        "activation": activation,
        "depth": depth,
        "batch_norm": batch_norm,
        "learning_rate": 0.1,
        "runs": runs,
        "other_rates": [],
    }


def made_sweep(values, good):
    return {
        side: [
            {"value": value, "runs": [made_run(0.9) if value in good[side] else made_run(0.0, "diverged")]}
            for value in values
        ]
        for side in ("without", "with")
    }


@pytest.fixture
def results():
    from minitrain.experiments.stability.studies import initialization, learning_rate

    rates = made_sweep([0.01, 0.1, 1.0, 10.0], {"without": [0.01, 0.1], "with": [0.01, 0.1, 1.0]})
    scales = made_sweep([0.1, 1.0, 10.0], {"without": [1.0], "with": [0.1, 1.0, 10.0]})
    sigmoid = {}
    for side, accuracy, drift in (("without", [0.1, 0.5, 0.92], 4.0), ("with", [0.1, 0.95, 0.97], 0.5)):
        percentiles = {"15": [-1.0, -1.1, -1.0], "50": [0.0, 0.1, 0.0], "85": [1.0, 1.1, 1.0]}
        measured = {"measured_at": [0, 5, 10], "accuracy": accuracy, "typical_unit": 3, "percentiles": percentiles}
        run = {**made_run(accuracy[-1]), **measured, "drift_of_units": [drift], "median_drift": drift}
        sigmoid[side] = {"learning_rate": 1.0, "runs": [run], "other_rates": []}
    nets = [made_net(*kind, depth, norm) for kind in KINDS for depth in (5, 40) for norm in (False, True)]
    return {
        "format": 1,
        "seed": 0,
        "finished": True,
        "settings": json.loads(json.dumps(asdict(FULL))),
        "data": {
            "name": "digits",
            "training_images": 1437,
            "test_images": 360,
            "image_shape": [1, 8, 8],
            "classes": 10,
            "chance_loss": 2.302585,
            "chance_accuracy": 0.1,
        },
        "outcomes": OUTCOMES,
        "environment": {"minitrain": "0.1.0", "cores": 2},
        "seconds": {"depth": 1.0},
        "experiments": {
            "depth": {"nets": nets},
            "learning_rate": {**rates, "summary": learning_rate.summarize(rates)},
            "initialization": {**scales, "summary": initialization.summarize(scales)},
            "ioffe_szegedy": sigmoid,
        },
    }


def swapped(results):
    """The same results with batch norm and its absence exchanged: every claim must turn round."""
    other = copy.deepcopy(results)
    experiments = other["experiments"]
    for net in experiments["depth"]["nets"]:
        net["batch_norm"] = not net["batch_norm"]
    for name in ("learning_rate", "initialization", "ioffe_szegedy"):
        sides = experiments[name]
        sides["with"], sides["without"] = sides["without"], sides["with"]
        if "summary" in sides:
            summary = sides["summary"]
            summary["with"], summary["without"] = summary["without"], summary["with"]
            if summary.get("ratio"):
                summary["ratio"] = 1 / summary["ratio"]
    return other


def test_depth_statement_follows_the_numbers(results):
    said = statements.about_depth(results)
    assert "decides in all kinds of net" in said
    assert "93.5 % with, 10.5 % without" in said
    assert "At 5 layers it gains less than 2 points" in said
    for net in results["experiments"]["depth"]["nets"]:
        if (net["kind"], net["activation"], net["depth"], net["batch_norm"]) == ("dense", "relu", 40, True):
            net["runs"][1] = {**net["runs"][1], **made_run(0.3, "partly", 1)}
    said = statements.about_depth(results)
    assert "decides in 3 of 4 kinds of net" in said
    assert "helps, but does not decide, in dense, ReLU (61.5 % with" in said
    contrary = statements.about_depth(swapped(results))
    assert "no kind of net that only batch norm" in contrary
    assert "conv, ReLU (10.5 % with, 93.5 % without)" in contrary.split("does harm in")[1]


def test_gradient_statement_follows_the_numbers(results):
    said = statements.about_gradients_at_start(results)
    assert "1e-38 without, 1 with" in said
    assert "explodes" not in said
    for net in results["experiments"]["depth"]["nets"]:
        if net["batch_norm"] and net["depth"] == 40 and net["kind"] == "dense":
            for run in net["runs"]:
                run["gradients"]["norms"][0][0] = 1300.0
    said = statements.about_gradients_at_start(results)
    assert "explodes at initialization in dense, ReLU; dense, sigmoid, as Yang" in said


def test_vanished_and_infinite_gradients_have_words(results):
    net = results["experiments"]["depth"]["nets"][2]
    for run in net["runs"]:
        run["gradients"]["norms"] = [[0.0, *run["gradients"]["norms"][0][1:]]] * 2
    assert "0 (it vanishes altogether) without" in statements.about_gradients_at_start(results)
    assert "infinite factor (some are zero)" in statements.about_gradients_in_training(results)
    net["runs"][0]["gradients"]["norms"] = [[None, 1.0, 1.0]]
    assert "infinity without" in statements.about_gradients_at_start(results)
    assert "not finite" in statements.about_gradients_in_training(results)


def test_learning_rate_statement_follows_the_numbers(results):
    said = statements.about_learning_rate(results)
    assert "up to a rate of 0.1" in said
    assert "10 times as large" in said
    assert "Runs without batch norm diverge at 1 and 10" in said
    assert "learns nothing" not in said
    results["experiments"]["learning_rate"]["with"][3]["runs"] = [made_run(0.1, "chance")]
    assert "With it the net learns nothing at 10." in statements.about_learning_rate(results)
    contrary = statements.about_learning_rate(swapped(results))
    assert "divides it by 10: not what Bjorck" in contrary
    summary = results["experiments"]["learning_rate"]["summary"]
    summary["with"].update(largest_stable=10.0, at_the_end=True, some_diverged=[])
    summary["ratio"] = 100.0
    said = statements.about_learning_rate(results)
    assert "at least 100 times" in said
    assert "No run with batch norm diverges" in said
    summary["without"]["largest_stable"] = summary["ratio"] = None
    said = statements.about_learning_rate(results)
    assert "no rate of the range" in said
    assert "times as large" not in said


def test_initialization_statement_follows_the_numbers(results):
    said = statements.about_initialization(results)
    assert "Without batch norm the net is trained from 1 of the 3 scales (1)" in said
    assert "depends less on the scale" in said
    assert "depends more on the scale" in statements.about_initialization(swapped(results))


def test_sigmoid_statement_follows_the_numbers(results):
    said = statements.about_sigmoid(results)
    assert "after 5 steps with and after 10 steps without" in said
    assert "more stable, as in the paper" in said
    contrary = statements.about_sigmoid(swapped(results))
    assert "after 10 steps with and after 5 steps without" in contrary
    assert "unlike in the paper" in contrary
    for run in results["experiments"]["ioffe_szegedy"]["without"]["runs"]:
        run["accuracy"] = [0.1, 0.2, 0.3]
    assert "never without" in statements.about_sigmoid(results)


def test_summary_table_holds_the_same_numbers(results, capsys):
    rows = {row[0]: row[1:] for row in summary_rows(results)}
    assert rows["40 layers, dense, ReLU: test accuracy"] == (
        "10.5 % (10 % to 11 %)",
        "93.5 % (93 % to 94 %)",
    )
    assert rows["largest stable learning rate"] == ("0.1", "1 (10 times as large)")
    print_table(results)
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    results["experiments"] = {}
    assert summary_rows(results) == []


class Loaded(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]


def test_report_needs_nothing_but_itself(results):
    html = render(results, {figure[0]: PNG for figure in FIGURES})
    page = Loaded()
    page.feed(html)
    assert len(page.sources) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    for author in ("Ioffe", "Bjorck", "Santurkar", "K. He", "Yang"):
        assert author in html
    assert "momentum" in html
    assert "stopped before its end" not in html


def test_report_of_a_stopped_run_shows_what_was_finished(results):
    results["finished"] = False
    del results["experiments"]["ioffe_szegedy"]
    html = render(results, {figure[0]: PNG for figure in FIGURES if figure[0] != "ioffe_szegedy"})
    assert "stopped before its end" in html
    assert len(re.findall("<img", html)) == len(FIGURES) - 1


def test_figures_are_drawn_from_any_results(results):
    """Diverged runs, gradients that vanish or are infinite, and no stable rate are drawn, not raised."""
    from minitrain.experiments.stability.figures.style import draw_all

    net = results["experiments"]["depth"]["nets"][2]
    for run in net["runs"]:
        run.update(made_run(0.0, "diverged"))
        run["gradients"] = {"weights": ["w"] * 40, "steps": [0], "norms": [[None, 0.0, *[1.0] * 38]]}
    results["experiments"]["learning_rate"]["summary"]["without"]["largest_stable"] = None
    figures = draw_all(results)
    assert list(figures) == [figure[0] for figure in FIGURES]
    assert all(content.startswith(b"\x89PNG\r\n") for content in figures.values())
    assert draw_all({**results, "experiments": {}}) == {}
