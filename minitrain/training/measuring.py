"""What is computed of whole data sets by a net as it is, batch by batch; ranks share the batches among themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from minitrain.data.batch import GivenBatch
from minitrain.data.samples import Samples, ranges
from minitrain.data.stream import Stream
from minitrain.model import Model
from minitrain.objective.measures import Tally
from minitrain.objective.objective import Objective
from minitrain.objective.weighted import Weights
from minitrain.training.ranks.spread import Spread
from nbnorm.jit.arrays import Array

__all__ = ["measure", "predict"]

T = TypeVar("T")
Outputs = Mapping[str, Array]
Targets = tuple[Array, ...]
Use = Callable[[Outputs, Targets, Weights | None], T]


def measure(
    model: Model, objective: Objective, samples: Samples | Stream, batch_size: int, tally: Tally, spread: Spread | None
) -> None:
    """Add losses and metrics of a data set to a tally: in the bits of one process, whoever computes what.

    Each rank computes some of the batches, and all take all of them into account.
    """

    def add(outputs: Outputs, targets: Targets, weights: Weights | None) -> None:
        tally.add(objective(outputs, targets, None, weights), outputs, targets, weights)

    items: Iterable[Any]
    run: Callable[..., Any]
    if isinstance(samples, Stream):
        items, run = samples.each(), partial(_run_batch, model)
    else:
        items, run = ranges(len(samples), batch_size), partial(_run_range, model, samples)
    if spread is None or spread.group.size == 1:
        for each in items:
            run(each, add)
    else:
        for passed in spread.each_computed_once(items, lambda each: run(each, _copies)):
            add(*passed)


def predict(model: Model, x: Array | Sequence[Array], batch_size: int, spread: Spread | None) -> Any:
    """Do what `Model.predict` does; ranks share the batches."""
    arrays = model.check_inputs(x)
    if spread is None or spread.group.size == 1 or not len(arrays[0]):
        return model.predict(x, batch_size)

    def compute(bounds: tuple[int, int]) -> Any:
        part = [each[slice(*bounds)] for each in arrays]
        return model.predict(part if len(part) > 1 else part[0], batch_size)

    parts = list(spread.each_computed_once(ranges(len(arrays[0]), batch_size), compute))
    if isinstance(parts[0], Mapping):
        return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _run_range(model: Model, samples: Samples, bounds: tuple[int, int], use: Use[T]) -> T:
    start, stop = bounds
    with model.held(samples.shapes(stop - start)) as plan:
        inputs, targets, weights = samples.slices(start, stop)
        plan.load(inputs)
        plan.forward()
        return use(plan.outputs, targets, weights)


def _run_batch(model: Model, batch: GivenBatch, use: Use[T]) -> T:
    with model.held(batch.shapes) as plan:
        targets, weights = batch.load(plan), batch.given_weights
        plan.forward()
        return use(plan.outputs, targets, weights)


def _copies(outputs: Outputs, targets: Targets, weights: Weights | None) -> tuple[Outputs, Targets, Weights | None]:
    return {name: each.copy() for name, each in outputs.items()}, tuple(each.copy() for each in targets), weights
