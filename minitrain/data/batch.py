"""One batch on its way into a plan: drawn from a data set, or as somebody gave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.data.samples import Rows, Samples, output_shapes, with_present_targets
from minitrain.data.weights import ClassWeights, Given, scaled_to_mean_one, weights_of_samples
from minitrain.layer import Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.objective.weighted import Weights
from nbnorm.jit.arrays import Array

__all__ = ["Batch", "DrawnBatch", "GivenBatch", "weigh_together"]


class Batch(Protocol):
    """What a step is made on."""

    @property
    def size(self) -> int:
        """How many samples it has."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Those of the inputs."""

    @property
    def weights(self) -> Weights | None:
        """Of the samples, for each loss."""

    def load(self, plan: Plan) -> tuple[Array, ...]:
        """Copy the inputs into those of a plan that is held; return the targets, valid until the next batch."""

    def inputs(self) -> list[Array]:
        """Return the inputs in arrays of their own."""


class DrawnBatch:
    """Samples of a data set.

    Parameters
    ----------
    samples : Samples
    indices : array of int
    """

    def __init__(self, samples: Samples, indices: Rows) -> None:
        self._samples = samples
        self._indices = indices
        self.size = len(indices)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return self._samples.shapes(self.size)

    @property
    def weights(self) -> Weights | None:
        return self._samples.gather_weights(self._indices)

    def load(self, plan: Plan) -> tuple[Array, ...]:
        return self._samples.gather(self._indices, plan)

    def inputs(self) -> list[Array]:
        return self._samples.copy_of(self._indices)


class GivenBatch:
    """Arrays of a batch, checked, with weights whose mean over it is 1.

    Parameters
    ----------
    model : Model
    objective : Objective
    x, y, sample_weight
        As `Trainer.step` takes them.
    class_weights : ClassWeights, optional

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit the model, targets that do not fit the losses, weights that are none.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weights: ClassWeights | None = None,
    ) -> None:
        self._arrays = model.check_inputs(x)
        self.size = len(self._arrays[0])
        if not self.size:
            raise ValueError("x: expected at least one sample, got none")
        self.shapes: tuple[Shape, ...] = tuple([each.shape for each in self._arrays])
        amounts = weights_of_samples(objective, sample_weight, self.size)
        if amounts is not None:
            y = with_present_targets(objective, y, amounts)
        shapes = output_shapes(model, self.shapes)
        self.targets = objective.targets(y, shapes)
        if class_weights is not None:
            amounts = class_weights.times(amounts, self.targets, [shapes[t.output][-1] for t in objective.terms])
        self.amounts = amounts
        self.weights = None if amounts is None else scaled_to_mean_one(amounts, self.size)

    def load(self, plan: Plan) -> tuple[Array, ...]:
        plan.load(self._arrays)
        return self.targets

    def inputs(self) -> list[Array]:
        return self._arrays


def weigh_together(batches: Sequence[GivenBatch]) -> None:
    """Let the weights of several batches have a mean of 1 over all of them: they make one update."""
    if len(batches) == 1 or batches[0].amounts is None:
        return
    joined: Given = []
    for index, first in enumerate(batches[0].amounts):
        pieces = [None if each.amounts is None else each.amounts[index] for each in batches]
        joined.append(None if first is None else np.concatenate([each for each in pieces if each is not None]))
    stops = np.cumsum([each.size for each in batches])
    scaled = [np.split(each, stops[:-1]) for each in scaled_to_mean_one(joined, int(stops[-1]))]
    for index, batch in enumerate(batches):
        batch.weights = tuple(each[index] for each in scaled)
