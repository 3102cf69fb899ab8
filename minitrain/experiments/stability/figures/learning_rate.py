"""Accuracy and training loss against the learning rate."""

from __future__ import annotations

from typing import Any

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sides import LOOKS
from minitrain.experiments.stability.figures.sweep import draw_sweep
from minitrain.experiments.stability.records.learning_rate import RateResult
from minitrain.experiments.stability.records.sides import SIDES

__all__ = ["draw_rates"]


def draw_rates(result: RateResult, data: DataSummary) -> Any:
    """Draw accuracy and training loss against the learning rate, with the largest stable rates."""
    figure, panels = draw_sweep(result, data, "learning rate")
    limits = {side: result.summary[side].largest_stable for side in SIDES}
    known = {side: limit for side, limit in limits.items() if limit is not None}
    for side, limit in known.items():
        # The smaller limit is written to the left of its mark; of equal ones, and alone, that without batch norm.
        left = side == min(known, key=known.__getitem__) if len(known) == 2 else side == "without"
        panels[0].annotate(
            f"largest stable:\n{limit:g}" + (" or more" if result.summary[side].at_the_end else ""),
            xy=(limit, 100.5),
            xytext=(-6 if left else 6, 16),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom",
            color=LOOKS[side]["color"],
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "->", "color": LOOKS[side]["color"]},
        )
    return figure
