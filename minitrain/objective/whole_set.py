"""Metrics that are no means: measured once, on the outputs and targets of all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitrain.objective.lending import as_number
from nbnorm.jit.arrays import Array

__all__ = ["Gathered", "is_over_whole_set"]


def is_over_whole_set(metric: Callable[..., Any]) -> bool:
    """Tell whether a metric wants the outputs and targets of all samples at once: `over_whole_set = True` says so."""
    return bool(getattr(metric, "over_whole_set", False))


class Gathered:
    """The outputs and targets of the batches so far, for one metric.

    Parameters
    ----------
    name : str
        What messages call the metric.
    metric : callable
        Of all outputs and all targets.
    """

    def __init__(self, name: str, metric: Callable[..., Any]) -> None:
        self._name = name
        self._metric = metric
        self._outputs: list[Array] = []
        self._targets: list[Array] = []

    def add(self, outputs: Array, targets: Array) -> None:
        """Take copies of a batch."""
        self._outputs.append(np.array(outputs))
        self._targets.append(np.array(targets))

    def value(self) -> float:
        """Return the metric of everything so far; NaN before the first batch."""
        if not self._outputs:
            return float("nan")
        return as_number(f"metric {self._name}", self._metric(*self.arrays().values()))

    def arrays(self) -> dict[str, Array]:
        """Return all outputs and targets so far, one array each; nothing before the first batch."""
        if not self._outputs:
            return {}
        self._outputs, self._targets = [np.concatenate(self._outputs)], [np.concatenate(self._targets)]
        return {"outputs": self._outputs[0], "targets": self._targets[0]}

    def restore(self, outputs: Array, targets: Array) -> None:
        """Go on from what `arrays` returned."""
        self._outputs, self._targets = [outputs], [targets]
