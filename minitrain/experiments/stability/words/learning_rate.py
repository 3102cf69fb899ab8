"""What the figure of the learning rates shows."""

from __future__ import annotations

from minitrain.experiments.experiment import Row
from minitrain.experiments.stability.records.learning_rate import RateResult, RateSettings, RateSummary
from minitrain.experiments.stability.records.sides import SIDES, Side
from minitrain.experiments.stability.records.sweep import values_where_all
from minitrain.experiments.words import ACTIVATION_NAMES, join

__all__ = ["about", "choices", "rows"]


def about(result: RateResult) -> str:
    """Say the largest stable rates and what happens above them."""
    summary = result.summary
    sentences = [_limit_sentence(summary, side) for side in SIDES]
    ratio = summary.ratio
    if ratio is not None and ratio > 1:
        least = "at least " if summary.with_.at_the_end else ""
        sentences.append(
            f"Batch norm makes the largest stable rate {least}{ratio:.3g} times as large, to within the spacing of the "
            "rates, as Bjorck et al. 2018 describe."
        )
    elif ratio is not None:
        change = "does not change the largest stable rate" if ratio == 1 else f"divides it by {1 / ratio:.3g}"
        sentences.append(f"Here batch norm {change}: not what Bjorck et al. 2018 describe.")
    for side in SIDES:
        diverged = summary[side].some_diverged
        sentences.append(
            f"Runs {side} batch norm diverge at {join([f'{rate:g}' for rate in diverged])}."
            if diverged
            else f"No run {side} batch norm diverges."
        )
        idle = [f"{rate:g}" for rate in values_where_all(result[side], "chance")]
        if idle:
            sentences.append(f"{side.capitalize()} it the net learns nothing at {join(idle)}.")
    return " ".join(sentences)


def rows(result: RateResult) -> list[Row]:
    """Return the largest stable rates."""
    ratio = result.summary.ratio
    times_as_large = "" if ratio is None else f" ({ratio:.3g} times as large)"
    without, with_norm = (_limit(result.summary, side) for side in SIDES)
    return [("largest stable learning rate", without, with_norm + times_as_large)]


def choices(settings: RateSettings) -> list[str]:
    """Return which net is swept, here and over the scale of the first weights, and why."""
    return [
        f"Learning rate and scale of the first weights: a {settings.kind} net of {settings.depth} layers with "
        f"{ACTIVATION_NAMES[settings.activation]}, shallow enough to train without batch "
        "norm too, so that there is something to compare; constant rates without momentum. A rate is stable where the "
        "run is trained from every seed. The limit is known only to the spacing of the rates.",
    ]


def _limit_sentence(summary: RateSummary, side: Side) -> str:
    limit = summary[side].largest_stable
    if limit is None:
        return f"{side.capitalize()} batch norm no rate of the range trains the net from every seed."
    end = ", the largest that was tried" if summary[side].at_the_end else ""
    return f"{side.capitalize()} batch norm the net is trained up to a rate of {limit:g}{end}."


def _limit(summary: RateSummary, side: Side) -> str:
    limit = summary[side].largest_stable
    return "none" if limit is None else f"{limit:g}" + (" or more" if summary[side].at_the_end else "")
