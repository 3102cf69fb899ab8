"""How an update is divided: pieces of the flat vector, and the settings of the groups that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minitrain.optimizers.globs import Globs
from minitrain.optimizers.runs import ParameterRun, ParameterRuns
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["PIECE", "Cut", "Settings", "cut_runs", "pieces_of"]

# Elements of one unit of parallel work: fewer take less time than handing them to a thread, more leave threads idle for
# the few ten thousand parameters of a small net. Found with `benchmarks.peers training-step`, 4-core Xeon, AVX-512,
# 2026-11.
PIECE = 4096
FROZEN = -1  # the group of what is left alone
NO_SETTINGS = (0.0, 0.0, 0.0, 1.0)

Runs = Sequence[ParameterRun | tuple[slice, bool]]


class Settings(NamedTuple):
    """The fields of an optimizer that may differ between parameters: a number for all penalized ones, or globs."""

    l1: float | Mapping[str, float]
    l2: float | Mapping[str, float]
    weight_decay: float | Mapping[str, float]
    rate: Mapping[str, float] | None

    def check(self, runs: Sequence[ParameterRun]) -> None:
        """Raise ValueError if a glob matches no parameter."""
        names = [each.name for each in runs if each.name]
        for field, setting in zip(self._fields, self, strict=True):
            if isinstance(setting, Globs):
                setting.check(field, names)

    def numbers_for(self, each: ParameterRun) -> tuple[float, float, float, float]:
        """Return l1, l2, decay and the factor of the learning rate of one parameter."""
        factor = self.rate.number_for(each.name, 1.0) if isinstance(self.rate, Globs) else 1.0
        return _penalty(self.l1, each), _penalty(self.l2, each), _penalty(self.weight_decay, each), factor


def _penalty(setting: float | Mapping[str, float], each: ParameterRun) -> float:
    if isinstance(setting, Globs):
        return setting.number_for(each.name, 0.0)
    assert not isinstance(setting, Mapping)  # the optimizer made it a number or Globs
    return setting if each.penalized else 0.0


class Cut(NamedTuple):
    """An update as the kernels take it.

    Attributes
    ----------
    pieces : int64 array (n, 3)
        See `pieces_of`.
    settings : float64 array (groups, 4)
        l1, l2, decay and factor of the learning rate of each group.
    elements : int
        How many are updated.
    trained : tuple of slices, or None
        The vector without what is frozen; None where nothing is.
    """

    pieces: NDArray[np.int64]
    settings: Array
    elements: int
    trained: tuple[slice, ...] | None


def cut_runs(runs: Runs, size: int, settings: Settings) -> Cut:
    """Divide a vector of this size: parameters with the same settings are one group, whatever lies between has none."""
    named = ParameterRuns(ParameterRun(*each) for each in runs)
    settings.check(named)
    # Group 0 is what penalties do not reach. One that penalties of 0 reach is a group of its own: the sign of a zero
    # gradient depends on it.
    groups: dict[tuple[float, ...] | None, int] = {None: 0}
    grouped = []
    for each in named:
        numbers = settings.numbers_for(each)
        key = numbers if each.penalized or numbers != NO_SETTINGS else None
        grouped.append((each.run, FROZEN if each.frozen else groups.setdefault(key, len(groups))))
    pieces = pieces_of(grouped, size)
    rows = [NO_SETTINGS if key is None else key for key in groups]
    return Cut(pieces, np.array(rows), int((pieces[:, 1] - pieces[:, 0]).sum()), named.trained)


def pieces_of(penalized: Sequence[tuple[slice, int]], size: int) -> NDArray[np.int64]:
    """Return (n, 3) rows of start, stop, group: the vector in units of work of at most PIECE elements.

    Takes increasing slices with their groups: True and False are groups 1 and 0. What lies between is in group 0, what
    is FROZEN is left out.
    """
    runs: list[list[int]] = []
    end = 0
    for run, group in penalized:
        start, stop, stride = run.indices(size)
        if start < end or stop < start or stride != 1 or (run.stop is not None and run.stop > size):
            raise ValueError(mismatch("penalized", f"increasing slices within {size} elements", f"{run} after {end}"))
        for piece in ([end, start, 0], [start, stop, int(group)]):
            if runs and runs[-1][2] == piece[2]:
                runs[-1][1] = piece[1]
            elif piece[0] < piece[1]:
                runs.append(piece)
        end = stop
    runs.append([end, size, 0])
    trained = [run for run in runs if run[2] != FROZEN]
    rows = [(i, min(i + PIECE, stop), group) for start, stop, group in trained for i in range(start, stop, PIECE)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
