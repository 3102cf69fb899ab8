"""What the figure of the first weights' scale shows."""

from __future__ import annotations

from minitrain.experiments.experiment import Row
from minitrain.experiments.stability.records.initialization import ScaleResult, ScaleSettings
from minitrain.experiments.stability.records.sides import SIDES
from minitrain.experiments.words import SAME_ACCURACY, join, percent

__all__ = ["about", "choices", "rows"]


def about(result: ScaleResult) -> str:
    """Say from which scales both nets are trained."""
    count = len(result.with_)
    sentences = []
    for side in SIDES:
        found = result.summary[side]
        scales = join([f"{scale:g}" for scale in found.trained]) if found.trained else "none"
        sentences.append(
            f"{side.capitalize()} batch norm the net is trained from {len(found.trained)} of the {count} scales "
            f"({scales}), and its accuracy lies between {percent(found.lowest_accuracy)} and "
            f"{percent(found.highest_accuracy)}."
        )
    without, with_norm = result.summary.without.width, result.summary.with_.width
    if with_norm < without - SAME_ACCURACY:
        sentences.append("The result depends less on the scale with batch norm.")
    elif with_norm > without + SAME_ACCURACY:
        sentences.append("The result depends more on the scale with batch norm.")
    else:
        sentences.append("Batch norm changes little in how far the result depends on the scale.")
    return " ".join(sentences)


def rows(result: ScaleResult) -> list[Row]:
    """Return how many scales train, and the accuracies."""
    count = len(result.with_)
    both = [result.summary[side] for side in SIDES]
    trained = [f"{len(found.trained)} of {count}" for found in both]
    ranges = [f"{100 * found.lowest_accuracy:.3g} to {100 * found.highest_accuracy:.3g} %" for found in both]
    scales = [entry.value for entry in result.with_]
    name = f"first weights times {min(scales):g} to {max(scales):g}"
    return [(f"{name}: scales that train", *trained), (f"{name}: test accuracy", *ranges)]


def choices(settings: ScaleSettings) -> list[str]:
    """Return nothing: what is said of the learning rates holds here."""
    return []
