"""What `copy` and `pickle` are given of models and trainers: values, never the memory they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array

__all__ = ["VERSION", "Copied", "copies", "owned", "version_checked"]

VERSION = 1  # of what is pickled: another one is refused


class Copied:
    """Base of objects that are copied and pickled by their attributes, in memory that is the copy's own."""

    def __getstate__(self) -> dict[str, Any]:
        return {"version": VERSION, **vars(self)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        version_checked(state, type(self).__name__, "minitrain.checkpoint.save_checkpoint(trainer, path)")
        vars(self).update({name: owned(each) for name, each in state.items() if name != "version"})

    def __copy__(self) -> Any:
        name = type(self).__name__
        raise TypeError(
            f"a shallow copy of a {name} would share its arrays: write copy.deepcopy(...) for a {name} of its own"
        )


def copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays by name, in memory of their own."""
    return {name: each.copy() for name, each in arrays.items()}


def owned(value: Any) -> Any:
    """Return a value whose arrays can be written into: joblib hands large ones to its workers read-only."""
    if isinstance(value, np.ndarray) and (not value.flags.writeable or isinstance(value, np.memmap)):
        return np.array(value)
    if type(value) is dict:
        return {name: owned(each) for name, each in value.items()}
    return value


def version_checked(state: Any, what: str, instead: str) -> Mapping[str, Any]:
    """Return what was pickled; ValueError where another version of minitrain did that."""
    version = state.get("version") if isinstance(state, Mapping) else None
    if version != VERSION:
        raise ValueError(
            f"this {what} was pickled by another version of minitrain (its state has version {version}, expected "
            f"{VERSION}); what is to be kept for long goes into a file: {instead}"
        )
    return dict(state)
