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

__all__ = ["Batch", "DrawnBatch", "GivenBatch", "Source", "joined", "weigh_together"]


class Source(Protocol):
    """The samples that a batch is among, by their positions."""

    @property
    def positions(self) -> Rows:
        """Those of the batch."""

    @property
    def count(self) -> int:
        """How many there are to choose another one from."""

    @property
    def classes(self) -> list[int]:
        """The size of the last axis of the outputs, for each loss."""

    def ids(self, positions: Rows) -> Rows:
        """Return what stays the same of samples from epoch to epoch: their indices in what was given."""

    def fetch(self, positions: Rows) -> tuple[list[Array], tuple[Array, ...]]:
        """Return inputs and targets."""


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

    @property
    def source(self) -> Source:
        """Where its samples are from."""

    def load(self, plan: Plan) -> tuple[Array, ...]:
        """Copy the inputs into those of a plan that is held; return the targets, valid until the next batch."""

    def inputs(self) -> list[Array]:
        """Return the inputs in arrays of their own."""

    def part(self, start: int, stop: int) -> Batch:
        """Return a batch of some of the samples, which are what they are in the whole one."""


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

    @property
    def source(self) -> Source:
        return _DataSet(self._samples, self._indices)

    def load(self, plan: Plan) -> tuple[Array, ...]:
        return self._samples.gather(self._indices, plan)

    def inputs(self) -> list[Array]:
        return self._samples.copy_of(self._indices)

    def part(self, start: int, stop: int) -> DrawnBatch:
        return DrawnBatch(self._samples, self._indices[start:stop])


class _DataSet:
    """All samples of a data set."""

    def __init__(self, samples: Samples, indices: Rows) -> None:
        self._samples = samples
        self.positions = indices
        self.count = len(samples)
        self.classes = samples.classes

    def ids(self, positions: Rows) -> Rows:
        return positions if self._samples.rows is None else self._samples.rows[positions]

    def fetch(self, positions: Rows) -> tuple[list[Array], tuple[Array, ...]]:
        return self._samples.fetch(positions)


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
        arrays = model.check_inputs(x)
        size = len(arrays[0])
        if not size:
            raise ValueError("x: expected at least one sample, got none")
        amounts = weights_of_samples(objective, sample_weight, size)
        if amounts is not None:
            y = with_present_targets(objective, y, amounts)
        shapes = output_shapes(model, [each.shape for each in arrays])
        targets = objective.targets(y, shapes)
        if class_weights is not None:
            amounts = class_weights.times(amounts, targets, [shapes[term.output][-1] for term in objective.terms])
        self._take(arrays, targets, amounts, [shapes[term.output][-1] for term in objective.terms])

    def _take(self, arrays: list[Array], targets: tuple[Array, ...], amounts: Given | None, classes: list[int]) -> None:
        self.first_id = 0  #: the number of its first sample in a pass, where that is known
        self.classes = classes
        self._arrays = arrays
        self.targets = targets
        self.amounts = amounts
        self.size = len(arrays[0])
        self.shapes: tuple[Shape, ...] = tuple([each.shape for each in arrays])
        self.weights = None if amounts is None else scaled_to_mean_one(amounts, self.size)

    @property
    def given_weights(self) -> Weights | None:
        """The weights as they were given, for means over many batches."""
        if self.amounts is None:
            return None
        return tuple(np.ones(self.size) if each is None else each for each in self.amounts)

    @property
    def source(self) -> Source:
        return _Single(self)

    def load(self, plan: Plan) -> tuple[Array, ...]:
        plan.load(self._arrays)
        return self.targets

    def inputs(self) -> list[Array]:
        return self._arrays

    def part(self, start: int, stop: int) -> GivenBatch:
        part = GivenBatch.__new__(GivenBatch)
        amounts = None if self.amounts is None else [None if w is None else w[start:stop] for w in self.amounts]
        targets = tuple(each[start:stop] for each in self.targets)
        part._take([each[start:stop] for each in self._arrays], targets, amounts, self.classes)
        part.weights = None if self.weights is None else tuple(each[start:stop] for each in self.weights)
        part.first_id = self.first_id + start
        return part


class _Single:
    """The samples of one batch."""

    def __init__(self, batch: GivenBatch) -> None:
        self._batch = batch
        self.positions = np.arange(batch.size)
        self.count = batch.size
        self.classes = batch.classes

    def ids(self, positions: Rows) -> Rows:
        return positions + self._batch.first_id

    def fetch(self, positions: Rows) -> tuple[list[Array], tuple[Array, ...]]:
        return [each[positions] for each in self._batch.inputs()], tuple(y[positions] for y in self._batch.targets)


def joined(first: GivenBatch, second: GivenBatch) -> GivenBatch:
    """Return one batch of the samples of two."""
    batch = GivenBatch.__new__(GivenBatch)
    batch._take(
        [np.concatenate(pair) for pair in zip(first.inputs(), second.inputs(), strict=True)],
        tuple(np.concatenate(pair) for pair in zip(first.targets, second.targets, strict=True)),
        _joined_amounts([first, second]),
        first.classes,
    )
    batch.first_id = first.first_id
    return batch


def weigh_together(batches: Sequence[GivenBatch]) -> None:
    """Let the weights of several batches have a mean of 1 over all of them: they make one update."""
    if len(batches) == 1:
        return
    amounts = _joined_amounts(batches)
    if amounts is None:
        return
    stops = np.cumsum([each.size for each in batches])
    scaled = [np.split(each, stops[:-1]) for each in scaled_to_mean_one(amounts, int(stops[-1]))]
    for index, batch in enumerate(batches):
        batch.weights = tuple(each[index] for each in scaled)


def _joined_amounts(batches: Sequence[GivenBatch]) -> Given | None:
    """Return the weights of all samples, as they were given."""
    if all(each.amounts is None for each in batches):
        return None
    terms = len(batches[0].targets)
    joined: Given = []
    for index in range(terms):
        pieces = [None if each.amounts is None else each.amounts[index] for each in batches]
        given = [np.ones(each.size) if p is None else p for p, each in zip(pieces, batches, strict=True)]
        joined.append(None if all(each is None for each in pieces) else np.concatenate(given))
    return joined
