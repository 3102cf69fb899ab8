"""What the figure after Ioffe & Szegedy shows."""

from __future__ import annotations

from minitrain.experiments.experiment import Row
from minitrain.experiments.stability.records.ioffe_szegedy import (
    SigmoidResult,
    SigmoidSettings,
    mean_drift,
    steps_to,
)
from minitrain.experiments.stability.records.sides import SIDES, Side
from minitrain.experiments.words import mean_accuracy, percent

__all__ = ["about", "choices", "rows"]

MILESTONE = 0.9  # accuracy whose first crossing is timed


def about(result: SigmoidResult) -> str:
    """Say how fast both nets learn and how far the inputs of the last hidden sigmoid wander."""
    runs = {side: result[side].runs for side in SIDES}
    crossings = {side: steps_to(runs[side], MILESTONE) for side in SIDES}
    sides: tuple[Side, ...] = ("with", "without")
    reached = {side: "never" if steps is None else f"after {steps:,} steps" for side, steps in crossings.items()}
    words = [f"{reached[side]} {side}" for side in sides]
    final = [f"{percent(mean_accuracy(runs[side]))} {side}" for side in sides]
    drift = {side: mean_drift(runs[side]) for side in SIDES}
    sentences = [
        f"{percent(MILESTONE)} of the test images are right {words[0]} and {words[1]} batch norm (mean of the seeds), "
        f"{final[0]} and {final[1]} at the end.",
        f"Over training the median of a typical unit's input wanders by {drift['without']:.2g} widths of its "
        f"distribution without batch norm and by {drift['with']:.2g} with it",
    ]
    if drift["with"] < drift["without"]:
        sentences[1] += ": the distribution stays more stable, as in the paper."
    else:
        sentences[1] += ": here it is not more stable with batch norm, unlike in the paper."
    return " ".join(sentences)


def rows(result: SigmoidResult) -> list[Row]:
    """Return how fast both nets learn and how far the inputs wander."""
    both = [result[side].runs for side in SIDES]
    crossings = [steps_to(runs, MILESTONE) for runs in both]
    reached = ["never" if steps is None else f"{steps:,}" for steps in crossings]
    drift = [f"{mean_drift(runs):.2g} widths" for runs in both]
    return [
        (f"3 x 100 sigmoid: steps to {100 * MILESTONE:g} % of the test images", *reached),
        ("3 x 100 sigmoid: drift of a typical unit's input", *drift),
    ]


def choices(settings: SigmoidSettings) -> list[str]:
    """Return what the paper leaves open."""
    return [
        f"Figure 1 of Ioffe & Szegedy: their sizes and their batch of {settings.batch_size}, plain SGD. They name "
        f"neither the rate nor the deviation of their Gaussian first weights: here {settings.std:g}, and for each "
        f"net the rate of {', '.join(f'{rate:g}' for rate in settings.learning_rates)} that ends with the lowest "
        "training loss. Drift is how far the median of a unit's input moves over training, divided by the mean "
        "distance of the 15th and 85th percentile.",
    ]
