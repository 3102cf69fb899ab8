"""What the figures show, in sentences made from the numbers, so that text and numbers cannot part."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitrain.experiments.stability.figures.style import panel_title
from minitrain.experiments.stability.studies.sweep import values_where_all

__all__ = [
    "MILESTONE",
    "about_depth",
    "about_gradients_at_start",
    "about_gradients_in_training",
    "about_initialization",
    "about_learning_rate",
    "about_sigmoid",
    "accuracy_range",
    "deepest_pairs",
    "first_gradient_ratio",
    "join",
    "mean_drift",
    "steps_to",
    "times",
]

SAME = 0.02  # accuracies closer than this are called about the same
EXPLODES = 10.0  # growth of the gradient from the last hidden layer to the first that is called exploding
MILESTONE = 0.9  # accuracy whose first crossing is timed


def about_depth(results: dict[str, Any]) -> str:
    """Say where the deepest nets train with and without batch norm, and what it does for the shallowest."""
    pairs = deepest_pairs(results)
    deepest = pairs[0][0]["depth"]
    helped = [_compare(pair) for pair in pairs if _helps(pair)]
    sentences = []
    if helped:
        kinds = "all kinds" if len(helped) == len(pairs) else f"{len(helped)} of {len(pairs)} kinds"
        sentences.append(
            f"At {deepest} layers, batch norm decides in {kinds} of net: they are trained with it from every seed and "
            f"without it from none: {join(helped)}."
        )
    else:
        sentences.append(f"At {deepest} layers, there is no kind of net that only batch norm makes trainable.")
    rest = [pair for pair in pairs if not _helps(pair)]
    better = [_compare(pair) for pair in rest if _gain(pair) >= SAME]
    useless = [_compare(pair) for pair in rest if abs(_gain(pair)) < SAME]
    worse = [_compare(pair) for pair in rest if _gain(pair) <= -SAME]
    if better:
        sentences.append(f"It helps, but does not decide, in {join(better)}.")
    if useless:
        sentences.append(f"It makes no difference in {join(useless)}.")
    if worse:
        sentences.append(f"It does harm in {join(worse)}.")
    shallow = _pairs(results, min(net["depth"] for net in results["experiments"]["depth"]["nets"]))
    needless = [_compare(pair) for pair in shallow if _gain(pair) < SAME]
    if needless:
        sentences.append(
            f"At {shallow[0][0]['depth']} layers it gains less than {100 * SAME:.0f} points in {join(needless)}."
        )
    return " ".join(sentences)


def about_gradients_at_start(results: dict[str, Any]) -> str:
    """Say by how much gradients vanish or explode between the last hidden layer and the first at initialization."""
    pairs = deepest_pairs(results)
    parts = []
    for without, with_norm in pairs:
        kind = panel_title(without["kind"], without["activation"])
        parts.append(
            f"{kind}: {times(first_gradient_ratio(without))} without, {times(first_gradient_ratio(with_norm))} with"
        )
    sentences = [
        f"On the way back from the last hidden layer to the first of {pairs[0][0]['depth']} layers, the norm of the "
        f"gradient is multiplied by: {'; '.join(parts)}."
    ]
    exploding = [
        panel_title(with_norm["kind"], with_norm["activation"])
        for _, with_norm in pairs
        if first_gradient_ratio(with_norm) > EXPLODES
    ]
    if exploding:
        sentences.append(
            f"Batch norm is no cure for everything: with it the gradient explodes at initialization in "
            f"{join(exploding)}, as Yang et al. 2019 derive for deep nets with batch norm and without shortcuts."
        )
    return " ".join(sentences)


def about_gradients_in_training(results: dict[str, Any]) -> str:
    """Say what the spread of the gradients over the layers is at the end of training."""
    parts = []
    for without, with_norm in deepest_pairs(results):
        kind = panel_title(without["kind"], without["activation"])
        parts.append(f"{kind}: {_decades(without)} without, {_decades(with_norm)} with")
    return (
        "Each map is one net: layers upwards, steps to the right, a common scale of colours. After the last "
        f"measurement of training, the largest and the smallest norm among the layers are apart by {'; '.join(parts)}."
    )


def about_learning_rate(results: dict[str, Any]) -> str:
    """Say the largest stable rates and what happens above them."""
    summary = results["experiments"]["learning_rate"]["summary"]
    limits = {side: summary[side]["largest_stable"] for side in ("without", "with")}
    sentences = []
    for side, limit in limits.items():
        if limit is None:
            sentences.append(f"{side.capitalize()} batch norm no rate of the range trains the net from every seed.")
        else:
            end = ", the largest that was tried" if summary[side]["at_the_end"] else ""
            sentences.append(f"{side.capitalize()} batch norm the net is trained up to a rate of {limit:g}{end}.")
    ratio = summary["ratio"]
    if ratio is not None and ratio > 1:
        least = "at least " if summary["with"]["at_the_end"] else ""
        sentences.append(
            f"Batch norm makes the largest stable rate {least}{ratio:.3g} times as large, to within the spacing of the "
            "rates, as Bjorck et al. 2018 describe."
        )
    elif ratio is not None:
        change = "does not change the largest stable rate" if ratio == 1 else f"divides it by {1 / ratio:.3g}"
        sentences.append(f"Here batch norm {change}: not what Bjorck et al. 2018 describe.")
    for side in ("without", "with"):
        diverged = summary[side]["some_diverged"]
        sentences.append(
            f"Runs {side} batch norm diverge at {join([f'{rate:g}' for rate in diverged])}."
            if diverged
            else f"No run {side} batch norm diverges."
        )
        idle = [f"{rate:g}" for rate in values_where_all(results["experiments"]["learning_rate"][side], "chance")]
        if idle:
            sentences.append(f"{side.capitalize()} it the net learns nothing at {join(idle)}.")
    return " ".join(sentences)


def about_initialization(results: dict[str, Any]) -> str:
    """Say from which scales both nets are trained."""
    experiment = results["experiments"]["initialization"]
    count = len(experiment["with"])
    sentences = []
    for side in ("without", "with"):
        part = experiment["summary"][side]
        scales = join([f"{scale:g}" for scale in part["trained"]]) if part["trained"] else "none"
        sentences.append(
            f"{side.capitalize()} batch norm the net is trained from {len(part['trained'])} of the {count} scales "
            f"({scales}), and its accuracy lies between {_percent(part['lowest_accuracy'])} and "
            f"{_percent(part['highest_accuracy'])}."
        )
    widths = [
        experiment["summary"][side]["highest_accuracy"] - experiment["summary"][side]["lowest_accuracy"]
        for side in ("without", "with")
    ]
    if widths[1] < widths[0] - SAME:
        sentences.append("The result depends less on the scale with batch norm.")
    elif widths[1] > widths[0] + SAME:
        sentences.append("The result depends more on the scale with batch norm.")
    else:
        sentences.append("Batch norm changes little in how far the result depends on the scale.")
    return " ".join(sentences)


def about_sigmoid(results: dict[str, Any]) -> str:
    """Say how fast both nets learn and how far the inputs of the last hidden sigmoid wander."""
    experiment = results["experiments"]["ioffe_szegedy"]
    data = {side: experiment[side]["runs"] for side in ("without", "with")}
    times = {side: steps_to(data[side], MILESTONE) for side in data}
    words = [
        f"{f'after {times[side]:,} steps' if times[side] is not None else 'never'} {side}"
        for side in ("with", "without")
    ]
    final = [f"{_percent(_mean_accuracy(data[side]))} {side}" for side in ("with", "without")]
    drift = {side: mean_drift(data[side]) for side in data}
    sentences = [
        f"{_percent(MILESTONE)} of the test images are right {words[0]} and {words[1]} batch norm (mean of the seeds), "
        f"{final[0]} and {final[1]} at the end.",
        f"Over training the median of a typical unit's input wanders by {drift['without']:.2g} widths of its "
        f"distribution without batch norm and by {drift['with']:.2g} with it",
    ]
    if drift["with"] < drift["without"]:
        sentences[1] += ": the distribution stays more stable, as in the paper."
    else:
        sentences[1] += ": here it is not more stable with batch norm, unlike in the paper."
    return " ".join(sentences)


def deepest_pairs(results: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the deepest nets as (without, with), one pair for each kind."""
    return _pairs(results, max(net["depth"] for net in results["experiments"]["depth"]["nets"]))


def _pairs(results: dict[str, Any], depth: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    nets = [net for net in results["experiments"]["depth"]["nets"] if net["depth"] == depth]
    without = {(net["kind"], net["activation"]): net for net in nets if not net["batch_norm"]}
    return [(without[net["kind"], net["activation"]], net) for net in nets if net["batch_norm"]]


def first_gradient_ratio(net: dict[str, Any]) -> float:
    """Return the norm of the first layer's gradient over that of the last hidden one, at initialization.

    The geometric mean of the seeds; 0 where a gradient vanished altogether.
    """
    ratios = []
    for run in net["runs"]:
        norms = run["gradients"]["norms"][0]
        first, last = norms[0], norms[-2]
        if first is None or not last:
            return np.inf if first is None else np.nan
        ratios.append(first / last)
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(ratios))))


def steps_to(runs: list[dict[str, Any]], accuracy: float) -> int | None:
    """Return the first measured step at which the mean accuracy over the runs reaches a level; None if never."""
    for number, step in enumerate(runs[0]["measured_at"]):
        values = [run["accuracy"][number] for run in runs if number < len(run["accuracy"])]
        if len(values) == len(runs) and None not in values and np.mean(values) >= accuracy:
            return int(step)
    return None


def mean_drift(runs: list[dict[str, Any]]) -> float:
    """Return the mean over some runs of a typical unit's drift, in widths of its distribution."""
    return float(np.mean([np.nan if run["median_drift"] is None else run["median_drift"] for run in runs]))


def accuracy_range(runs: list[dict[str, Any]]) -> str:
    """Return the mean accuracy of some runs with the lowest and highest."""
    accuracies = [run["test_accuracy"] for run in runs]
    mean, low, high = (_percent(value) for value in (_mean_accuracy(runs), min(accuracies), max(accuracies)))
    return mean if low == high else f"{mean} ({low} to {high})"


def join(parts: list[str]) -> str:
    """Join with commas and a last "and"; with semicolons where the parts have commas."""
    separator = "; " if any(", " in part for part in parts) else ", "
    if separator == "; " or len(parts) < 2:
        return separator.join(parts)
    return f"{separator.join(parts[:-1])} and {parts[-1]}"


def _helps(pair: tuple[dict[str, Any], dict[str, Any]]) -> bool:
    without, with_norm = ({run["outcome"] for run in net["runs"]} for net in pair)
    return with_norm == {"trained"} and "trained" not in without


def _gain(pair: tuple[dict[str, Any], dict[str, Any]]) -> float:
    return _accuracy(pair[1]) - _accuracy(pair[0])


def _accuracy(net: dict[str, Any]) -> float:
    return _mean_accuracy(net["runs"])


def _mean_accuracy(runs: list[dict[str, Any]]) -> float:
    return float(np.mean([run["test_accuracy"] for run in runs]))


def _compare(pair: tuple[dict[str, Any], dict[str, Any]]) -> str:
    without, with_norm = pair
    kind = panel_title(without["kind"], without["activation"])
    return f"{kind} ({_percent(_accuracy(with_norm))} with, {_percent(_accuracy(without))} without)"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def times(ratio: float) -> str:
    if not np.isfinite(ratio):
        return "infinity" if ratio > 0 else "an unknown factor"
    if ratio == 0:
        return "0 (it vanishes altogether)"
    if 100 <= ratio < 1e6:
        return f"{float(f'{ratio:.2g}'):,.0f}"
    return f"{ratio:.2g}" if 0.001 <= ratio < 100 else f"{ratio:.0e}".replace("e-0", "e-").replace("e+", "e")


def _decades(net: dict[str, Any]) -> str:
    norms = net["runs"][0]["gradients"]["norms"][-1]
    if None in norms:
        return "an unknown factor (some are not finite)"
    smallest, largest = min(norms), max(norms)
    return "an infinite factor (some are zero)" if smallest == 0 else f"a factor of {times(largest / smallest)}"
