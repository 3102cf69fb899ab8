"""How a batch is divided into parts, and the parts among ranks: integers alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minitrain.graph.graph import Graph
from nbnorm.kernels.batch_norm import ghosts

__all__ = ["FIXED_PARTS", "Division", "Part", "ghost_sizes"]

# Parts of a batch where results are not to depend on the number of ranks: more ranks than this have nothing to do; more
# parts are smaller ones, whose layers begin and end more often. Three ranks share eight as 3, 3 and 2. What it costs is
# measured by `benchmarks.ranks`.
FIXED_PARTS = 8


class Part(NamedTuple):
    """Consecutive samples of a batch."""

    start: int
    stop: int


class Division:
    """The parts of a batch, and which of them each rank computes.

    Parameters
    ----------
    samples : int
        In the batch.
    ranks : int
    fixed : bool
        Whether the parts are the same whatever the number of ranks; else each rank has one.
    whole : iterable of int
        Sizes of ghosts: samples that are normalized together stay together.

    Attributes
    ----------
    parts : list of Part
        None of them is empty.

    Examples
    --------
    >>> [tuple(part) for part in Division(10, 3, False).parts]
    [(0, 3), (3, 6), (6, 10)]
    >>> Division(10, 3, True).of_rank(2)
    range(6, 8)
    """

    def __init__(self, samples: int, ranks: int, fixed: bool, whole: Iterable[int] = ()) -> None:
        borders = _borders(samples, whole)
        units = len(borders) - 1
        count = min(FIXED_PARTS if fixed else ranks, units)
        ends = [borders[units * index // count] for index in range(count + 1)]
        self.samples = samples
        self.parts = [Part(start, stop) for start, stop in itertools.pairwise(ends)]
        self._ranks = ranks

    def of_rank(self, rank: int) -> range:
        """Return the indices of the parts of a rank, maybe none; the first rank has some."""
        count = len(self.parts)
        first, stop = (-(-count * each // self._ranks) for each in (rank, rank + 1))
        return range(first, stop)

    @property
    def counts(self) -> list[int]:
        """How many parts each rank has."""
        return [len(self.of_rank(rank)) for rank in range(self._ranks)]

    def owner(self, part: int) -> int:
        """Return the rank that computes a part."""
        return next(rank for rank in range(self._ranks) if part in self.of_rank(rank))


def ghost_sizes(graph: Graph) -> list[int]:
    """Return the sizes of the ghosts of all batch norms that have some."""
    sizes = {getattr(node.layer, "ghost_size", None) for node in graph.nodes}
    return sorted(size for size in sizes if size is not None)


def _borders(samples: int, whole: Iterable[int]) -> Sequence[int]:
    """Return where a batch may be cut, both ends included."""
    borders = set(range(samples + 1))
    for size in whole:
        borders &= {0, *(each.stop for each in ghosts.of_samples(samples, size))}
    return sorted(borders)
