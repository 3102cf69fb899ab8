"""Batches that are changed on their way into a plan: see `minitrain.augment`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minitrain.augment import Augmentation, Draws, Mixup, check_pictures
from minitrain.compile.plan import Plan
from minitrain.data.batch import Batch, Source
from minitrain.data.feed import Feed
from minitrain.data.samples import Rows
from minitrain.layer import Shape
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.objective.weighted import Weights
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["AugmentedFeed", "checked_augmentations", "uniform"]

MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64's finalizer
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def uniform(key: Sequence[int], indices: Rows, numbers: int) -> Draws:
    """Return random numbers (N, numbers), uniform in [0, 1): a function of the key and each index alone.

    SplitMix64's finalizer over a state that is advanced by everything they depend on (Steele, Lea & Flood 2014, "Fast
    splittable pseudorandom number generators").
    """
    state = np.zeros((len(indices), numbers), np.uint64)
    parts: list[Any] = [*(np.uint64(each & MASK) for each in key), np.asarray(indices).astype(np.uint64)[:, None]]
    for part in [*parts, np.arange(numbers, dtype=np.uint64)]:
        state = _mixed(state ^ part)
    return np.asarray((state >> np.uint64(11)) * 2.0**-53, np.float64)


def _mixed(state: Any) -> Any:
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64
        state = state + np.uint64(GOLDEN)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(MULTIPLIERS[0])
        state = (state ^ (state >> np.uint64(27))) * np.uint64(MULTIPLIERS[1])
    return state ^ (state >> np.uint64(31))


def checked_augmentations(augment: Any, model: Model) -> list[Augmentation]:
    """Return what `Trainer.fit` was given.

    Raises
    ------
    TypeError, ValueError
        What is no augmentation, or does not go with the inputs of the model.
    """
    given = [augment] if isinstance(augment, Augmentation) else augment
    if not isinstance(given, (list, tuple)):
        raise TypeError(mismatch("augment", "a list of augmentations, such as [augment.Flip()]", repr(augment)))
    for each in given:
        if not isinstance(each, Augmentation):
            raise TypeError(mismatch("augment", "augmentations, such as augment.Flip()", repr(each)))
    specs = model.graph.inputs.values()
    check_pictures(list(given), [spec.shape for spec in specs if spec.dtype is None])
    if any(isinstance(each, Mixup) for each in given) and any(spec.dtype is not None for spec in specs):
        raise ValueError("augment: Mixup mixes floats, and the model has inputs that are none")
    return list(given)


class AugmentedFeed:
    """A feed whose batches are augmented.

    Parameters
    ----------
    feed : Feed
    augmentations : sequence of Augmentation
    model : Model
    objective : Objective
    """

    def __init__(self, feed: Feed, augmentations: Sequence[Augmentation], model: Model, objective: Objective) -> None:
        self._feed = feed
        dtypes = [np.dtype(spec.dtype or model.dtype) for spec in model.graph.inputs.values()]
        self._changes = _Changes(list(augmentations), dtypes, objective)

    @property
    def samples(self) -> int | None:
        return self._feed.samples

    @property
    def is_weighted(self) -> bool:
        return self._feed.is_weighted

    @property
    def shapes(self) -> list[tuple[Shape, ...]]:
        return self._feed.shapes

    def some_inputs(self) -> list[Array]:
        return self._feed.some_inputs()

    def groups(self, epoch: int, seed: int, shuffle: bool, first: int) -> Iterator[Sequence[Batch]]:
        for group in self._feed.groups(epoch, seed, shuffle, first):
            yield [AugmentedBatch(each, self._changes, (seed, epoch)) for each in group]


class AugmentedBatch:
    """A batch that is changed when it is loaded."""

    def __init__(self, batch: Batch, changes: _Changes, key: tuple[int, int], source: Source | None = None) -> None:
        self._batch = batch
        self._changes = changes
        self._key = key
        self._positions = batch.source.positions if source is None else source.positions
        self.size = batch.size
        self.shapes = batch.shapes
        self.source = batch.source if source is None else source

    @property
    def weights(self) -> Weights | None:
        return self._batch.weights

    def load(self, plan: Plan) -> tuple[Array, ...]:
        inputs, targets = self._changes.of(self.source, self._positions, self._key)
        plan.load(inputs)
        return targets

    def inputs(self) -> list[Array]:
        return self._changes.of(self.source, self._positions, self._key)[0]

    def part(self, start: int, stop: int) -> AugmentedBatch:
        part = AugmentedBatch(self._batch.part(start, stop), self._changes, self._key, self.source)
        part._positions = self._positions[start:stop]  # of the same source: others to mix with are those of the whole
        return part


class _Changes:
    """Augmentations, one after the other."""

    def __init__(self, augmentations: list[Augmentation], dtypes: list[np.dtype], objective: Objective) -> None:
        self._augmentations = augmentations
        self._dtypes = dtypes
        self._objective = objective

    def of(
        self, source: Source, positions: Rows, key: tuple[int, int], number: int | None = None
    ) -> tuple[list[Array], tuple[Array, ...]]:
        """Return inputs and targets of the samples at these positions after the first `number` augmentations."""
        given, targets = source.fetch(positions)
        inputs = [np.array(each, dtype, order="C") for each, dtype in zip(given, self._dtypes, strict=True)]
        ids = source.ids(positions)
        for index, each in enumerate(self._augmentations[:number]):
            draws = uniform((*key, index), ids, each.numbers)
            if isinstance(each, Mixup):
                partners = each.partners(draws, source.count)
                others, other_targets = self.of(source, partners, key, index)
                shares = each.shares(draws)
                inputs = [_mixed_rows(a, b, shares) for a, b in zip(inputs, others, strict=True)]
                targets = self._mixed_targets(targets, other_targets, shares, source)
            else:
                inputs = [
                    _expect_like(x, each, each.apply(x, draws)) if x.ndim == 4 and x.dtype.kind == "f" else x
                    for x in inputs
                ]
        return inputs, targets

    def _mixed_targets(
        self, first: tuple[Array, ...], second: tuple[Array, ...], shares: Draws, source: Source
    ) -> tuple[Array, ...]:
        mixed = []
        for term, a, b, classes in zip(self._objective.terms, first, second, source.classes, strict=True):
            if a.dtype.kind not in "f" and not isinstance(term.loss, SoftmaxCrossEntropy):
                raise TypeError(f"augment: Mixup mixes targets, and those of {term.label} are {a.dtype}")
            if a.dtype.kind != "f":
                a, b = (np.eye(classes, dtype=np.float32)[each] for each in (a, b))
            mixed.append(_mixed_rows(a, b, shares))
        return tuple(mixed)


def _mixed_rows(first: Array, second: Array, shares: Draws) -> Array:
    share = shares.reshape(-1, *(1,) * (first.ndim - 1))
    return np.ascontiguousarray(share * first + (1.0 - share) * second, first.dtype)


def _expect_like(x: Array, augmentation: Augmentation, changed: Any) -> Array:
    """Return what an augmentation made of a batch, in its dtype."""
    if not isinstance(changed, np.ndarray) or changed.shape != x.shape:
        got = f"shape {changed.shape}" if isinstance(changed, np.ndarray) else type(changed).__name__
        raise ValueError(mismatch(f"augment: {augmentation!r}.apply", f"an array of shape {x.shape}", got))
    return np.ascontiguousarray(changed, x.dtype)
