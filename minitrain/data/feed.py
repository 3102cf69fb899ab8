"""The batches of each epoch of a training, in groups that make one update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from minitrain.data.batch import Batch, DrawnBatch
from minitrain.data.samples import Rows, Samples, ranges
from minitrain.layer import Shape

__all__ = ["ArrayFeed", "Feed"]


class Feed(Protocol):
    """What a training is fed with."""

    @property
    def samples(self) -> int | None:
        """How many an epoch has; None where nobody knows yet."""

    @property
    def is_weighted(self) -> bool:
        """Whether samples have weights."""

    @property
    def shapes(self) -> list[tuple[Shape, ...]]:
        """Those of the inputs of all batches that are known beforehand, the largest first."""

    def groups(self, epoch: int, seed: int, shuffle: bool, first: int) -> Iterator[Sequence[Batch]]:
        """Yield the batches of each update of an epoch, from the update with the number `first` on."""


class ArrayFeed:
    """Samples in memory, in an order that depends on the seed and the epoch alone.

    Parameters
    ----------
    samples : Samples
    batch_size : int
    accumulate : int
        Batches in a group; the last group of an epoch may have fewer.
    trains_on_one : callable
        Whether the net can train on a single sample; else a last one joins the batch before.
    """

    def __init__(
        self, samples: Samples, batch_size: int, accumulate: int, trains_on_one: Callable[[Samples], bool]
    ) -> None:
        self._samples = samples
        divided = ranges(len(samples), batch_size)
        if len(divided) > 1 and divided[-1][1] - divided[-1][0] == 1 and not trains_on_one(samples):
            divided = ranges(len(samples), batch_size, join_single=True)
        self._groups = [divided[first : first + accumulate] for first in range(0, len(divided), accumulate)]

    @property
    def samples(self) -> int:
        return len(self._samples)

    @property
    def is_weighted(self) -> bool:
        return self._samples.weights is not None

    @property
    def shapes(self) -> list[tuple[Shape, ...]]:
        sizes = {stop - start for group in self._groups for start, stop in group}
        return [self._samples.shapes(size) for size in sorted(sizes, reverse=True)]

    def groups(self, epoch: int, seed: int, shuffle: bool, first: int) -> Iterator[Sequence[Batch]]:
        order = self._order(epoch, seed) if shuffle else np.arange(len(self._samples))
        for group in self._groups[first:]:
            yield [DrawnBatch(self._samples, order[start:stop]) for start, stop in group]

    def _order(self, epoch: int, seed: int) -> Rows:
        return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(len(self._samples))
