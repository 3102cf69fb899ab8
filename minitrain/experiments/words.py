"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minitrain.experiments.training import Trained

__all__ = [
    "ACTIVATION_NAMES",
    "SAME_ACCURACY",
    "accuracy_range",
    "join",
    "kind_of_net",
    "mean_accuracy",
    "percent",
    "times",
]

ACTIVATION_NAMES = {"relu": "ReLU", "sigmoid": "sigmoid"}
SAME_ACCURACY = 0.02  # accuracies closer than this are called about the same


def kind_of_net(kind: str, activation: str) -> str:
    """Return how a kind of net is called over a panel and in a sentence."""
    return f"{kind}, {ACTIVATION_NAMES[activation]}"


def mean_accuracy(runs: Sequence[Trained]) -> float:
    """Return the mean test accuracy of some runs."""
    return float(np.mean([run.test_accuracy for run in runs]))


def accuracy_range(runs: Sequence[Trained]) -> str:
    """Return the mean accuracy of some runs with the lowest and highest."""
    accuracies = [run.test_accuracy for run in runs]
    mean, low, high = (percent(value) for value in (mean_accuracy(runs), min(accuracies), max(accuracies)))
    return mean if low == high else f"{mean} ({low} to {high})"


def join(parts: list[str]) -> str:
    """Join with commas and a last "and"; with semicolons where the parts have commas."""
    separator = "; " if any(", " in part for part in parts) else ", "
    if separator == "; " or len(parts) < 2:
        return separator.join(parts)
    return f"{separator.join(parts[:-1])} and {parts[-1]}"


def percent(value: float) -> str:
    """Return a fraction in percent, with three digits."""
    return f"{100 * value:.3g} %"


def times(ratio: float) -> str:
    """Return a factor with two digits, infinite ones and zero in words."""
    if not np.isfinite(ratio):
        return "infinity" if ratio > 0 else "an unknown factor"
    if ratio == 0:
        return "0 (it vanishes altogether)"
    if 100 <= ratio < 1e6:
        return f"{float(f'{ratio:.2g}'):,.0f}"
    return f"{ratio:.2g}" if 0.001 <= ratio < 100 else f"{ratio:.0e}".replace("e-0", "e-").replace("e+", "e")
