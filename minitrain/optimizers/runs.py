"""Where parameters lie in the flat vector of all of them: what optimizers know of a model."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

__all__ = ["ParameterRun", "ParameterRuns"]


class ParameterRun(NamedTuple):
    """A run of the flat vector: one parameter.

    Attributes
    ----------
    run : slice
        Where the parameter lies.
    penalized : bool
        Whether penalties that are plain numbers reach it: weights yes, biases and gamma and beta no.
    name : str
        As the model calls it, "node.param": what globs match. A run without a name is matched by none.
    frozen : bool
        Whether updates leave it alone. Its gradient may hold anything.
    """

    run: slice
    penalized: bool
    name: str = ""
    frozen: bool = False


class ParameterRuns(tuple[ParameterRun, ...]):
    """The parameters of a model in the order of the flat vector.

    Made anew when one of them is frozen or trained again: optimizers remember how they divided these very objects.
    """

    @cached_property
    def trained(self) -> tuple[slice, ...] | None:
        """The vector without what is frozen, in as few slices as it takes; None where nothing is frozen."""
        if not any(each.frozen for each in self):
            return None
        slices, end = [], 0
        for each in self:
            if each.frozen:
                if end < each.run.start:
                    slices.append(slice(end, each.run.start))
                end = each.run.stop
        return *slices, slice(end, None)
