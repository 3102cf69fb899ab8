"""Losses and metrics of samples that have weights.

The loss of a data set of weighted samples is the mean sum_i w_i l_i / sum_i w_i, as in scikit-learn: to give a sample
the weight 2 is to have it twice, and the unit of weights does not matter. Training takes its gradient batch by batch
and without bias: the weights are divided by their mean over the set, so that their mean is 1, and the loss of a batch
of n is sum_i w_i l_i / n. (If it were divided by the batch's own sum of weights, as by PyTorch's
`CrossEntropyLoss(weight=...)`, a sample among light ones would count for more; divided by n with the weights as they
are, as in Keras, the unit of the weights would be a factor of the learning rate.) Where only a batch is known, its
own mean is taken.

A sample of weight 0 is absent: its targets are not looked at, and its outputs have no gradient. Metrics that are means
over samples are weighted like the losses; those over whole sets leave out what is absent, and know no other weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minitrain.metrics import per_sample_of
from minitrain.objective.lending import as_number, lent
from minitrain.objective.measures import Metric, Tally
from minitrain.objective.objective import Objective
from nbnorm.jit.arrays import Array

__all__ = ["WeightedTally", "Weights"]

Weights = tuple[Array, ...]  # for each loss (N,), float64, with a mean of 1 over the set that they belong to


class WeightedTally(Tally):
    """Sums over batches of weighted samples; the means are divided by the sums of the weights.

    The weights are summed under names of their own beside what is measured.
    """

    def __init__(self, objective: Objective, metrics: Mapping[str, Any]) -> None:
        super().__init__(objective, metrics)
        self._terms = objective.terms
        self._is_named = objective.is_named
        self._sums |= {_weight_of(index): 0.0 for index in range(len(self._terms))}

    def add(
        self,
        losses: Sequence[float],
        outputs: Mapping[str, Array],
        targets: Sequence[Array],
        weights: Sequence[Array] | None = None,
    ) -> None:
        """Take one batch: sums of weighted losses divided by the samples, and what the metrics are measured on."""
        count = len(targets[0])
        if weights is None:
            weights = tuple(np.ones(count) for _ in self._terms)
        self.samples += count
        sums = self._sums
        for name, loss in zip(self._losses, losses, strict=True):
            sums[name] += count * loss
        for index, each in enumerate(weights):
            sums[_weight_of(index)] += float(each.sum())
        for name, metric, output, index, _ in self._measures:
            sums[name] += _weighted_sum(name, metric, outputs[output], targets[index], weights[index])
        for measure, gathered in self._whole:
            present = weights[measure.targets] > 0.0
            if present.any():
                gathered.add(outputs[measure.output][present], targets[measure.targets][present])

    def means(self) -> dict[str, float]:
        """Return the weighted means so far, NaN before the first sample of weight."""
        means = {"loss": 0.0}
        for index, term in enumerate(self._terms):
            name = f"{term.output}_loss" if self._is_named else "loss"
            mean = self._mean(name, index)
            means[name] = mean
            if self._is_named and term.weight:
                means["loss"] += term.weight * mean
        return means | {each.name: self._mean(each.name, each.targets) for each in self._measures}

    def _mean(self, name: str, index: int) -> float:
        weight = self._sums[_weight_of(index)]
        return self._sums[name] / weight if weight else float("nan")


def _weight_of(index: int) -> str:
    return f"weight of loss {index}"  # no name of a metric: these are checked, and this is summed, not reported


def _weighted_sum(name: str, metric: Metric, outputs: Array, targets: Array, weights: Array) -> float:
    """The sum over the samples of weight times metric.

    A metric of a user's is a mean over samples: it is called once for all samples of one weight.
    """
    per_sample = per_sample_of(metric)
    present = weights > 0.0
    if per_sample is not None:
        return float(weights[present] @ per_sample(outputs[present], targets[present])) if present.any() else 0.0
    total = 0.0
    for weight in np.unique(weights[present]):
        chosen = weights == weight
        value = as_number(f"metric {name}", metric(lent(outputs[chosen]), lent(targets[chosen])))
        total += float(weight) * value * int(chosen.sum())
    return total
