"""Results of `minitrain stability` that were made up, so that sentences and figures can be held against them."""

import copy
import json

from minitrain.experiments.stability.records import initialization, learning_rate
from minitrain.experiments.stability.records.sides import SIDES
from minitrain.experiments.stability.records.sweep import Entries
from minitrain.experiments.stability.stability import STABILITY
from minitrain.experiments.training import OUTCOMES

KINDS = [("dense", "relu"), ("dense", "sigmoid"), ("conv", "relu"), ("conv", "sigmoid")]


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
    runs = [
        {**made_run((0.93 if good else 0.1) + 0.01 * seed, seed=seed), "learning_rate": 0.1, "gradients": gradients}
        for seed in (0, 1)
    ]
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
        for side in SIDES
    }


def made_lines():
    errors = {"batch norm": [[0.1, 0.2], [0.5, 0.7]], "layer norm": [[0.2, 0.2], [0.1, 0.1]]}
    return [
        {"panel": f"{kind}, ReLU", "name": name, "values": [5.0, 40.0], "errors": each}
        for kind in ("dense", "conv")
        for name, each in errors.items()
    ]


def with_summary(study, sweep):
    return {**sweep, "summary": study.summarize(Entries.from_json(sweep)).to_json()}


def made_results():
    """All five experiments, finished, as in results.json."""
    rates = made_sweep([0.01, 0.1, 1.0, 10.0], {"without": [0.01, 0.1], "with": [0.01, 0.1, 1.0]})
    scales = made_sweep([0.1, 1.0, 10.0], {"without": [1.0], "with": [0.1, 1.0, 10.0]})
    sigmoid = {}
    for side, accuracy, drift in (("without", [0.1, 0.5, 0.92], 4.0), ("with", [0.1, 0.95, 0.97], 0.5)):
        percentiles = {"15": [-1.0, -1.1, -1.0], "50": [0.0, 0.1, 0.0], "85": [1.0, 1.1, 1.0]}
        measured = {"measured_at": [0, 5, 10], "accuracy": accuracy, "typical_unit": 3, "percentiles": percentiles}
        run = {**made_run(accuracy[-1]), **measured, "drift_of_units": [drift], "median_drift": drift}
        sigmoid[side] = {"learning_rate": 1.0, "runs": [{**run, "learning_rate": 1.0}], "other_rates": []}
    nets = [made_net(*kind, depth, norm) for kind in KINDS for depth in (5, 40) for norm in (False, True)]
    return {
        "format": 1,
        "seed": 0,
        "finished": True,
        "settings": json.loads(json.dumps(STABILITY.settings(quick=False).to_json())),
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
        "environment": {
            "minitrain": "0.1.0",
            "python": "3.12.1",
            "numpy": "2.3.0",
            "numba": "0.68.1",
            "system": "Linux x86_64",
            "cores": 2,
            "threads": 2,
        },
        "seconds": {"depth": 1.0},
        "experiments": {
            "depth": {"nets": nets},
            "learning_rate": with_summary(learning_rate, rates),
            "initialization": with_summary(initialization, scales),
            "ioffe_szegedy": sigmoid,
            "other_norms": {"lines": made_lines()},
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
