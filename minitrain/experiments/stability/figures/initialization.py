"""Accuracy and training loss against the scale of the first weights."""

from __future__ import annotations

from typing import Any

from minitrain.experiments.data import DataSummary
from minitrain.experiments.stability.figures.sweep import draw_sweep
from minitrain.experiments.stability.records.initialization import ScaleResult

__all__ = ["draw_scales"]


def draw_scales(result: ScaleResult, data: DataSummary) -> Any:
    """Draw accuracy and training loss against the scale of the first weights."""
    figure, _ = draw_sweep(result, data, "factor on the first weights")
    return figure
