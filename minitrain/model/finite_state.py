"""Whether a model's state is finite: statistics that overflow make predictions constant, and no loss says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from minitrain.kernels import gradients as kernels
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS

__all__ = ["finite_checks", "state_vectors", "warn_of_state"]


class Kept(Protocol):
    """A model, of which the state alone is looked at."""

    @property
    def state(self) -> Any: ...
    @property
    def flat_state(self) -> Array: ...


def state_vectors(model: Kept) -> tuple[Array, ...]:
    """Return the floats in a model's state as few vectors; live views. The gaps in them hold zeros."""
    memory, start_of_memory = model.flat_state, model.flat_state.ctypes.data
    runs: list[tuple[int, int, np.dtype[Any]]] = []
    former = None
    for each in model.state.values():
        if each.dtype not in FLOATS or not each.size:
            former = None
            continue
        begin = each.ctypes.data - start_of_memory
        if former is not None and former == each.dtype:  # None equals float64
            runs[-1] = (runs[-1][0], begin + each.nbytes, each.dtype)
        else:
            runs.append((begin, begin + each.nbytes, each.dtype))
        former = each.dtype
    return tuple(memory[begin:end].view(dtype) for begin, end, dtype in runs)


def finite_checks(model: Kept) -> tuple[Callable[[], bool], ...]:
    """Return functions that say whether the floats in a model's state are finite: what runs in each step."""
    return tuple(partial(kernels.all_finite.for_work(each.size // 4), each) for each in state_vectors(model))


def warn_of_state(model: Kept) -> None:
    """Warn of what is not finite in a model's state, by name: the trainer refuses such a step, here nobody does."""
    broken = [name for name, value in model.state.items() if value.dtype in FLOATS and not np.isfinite(value).all()]
    if broken:
        warnings.warn(
            f"{', '.join(broken)}: not finite after this batch, so that predictions will be constant or NaN; its "
            "inputs are too large for running statistics of this dtype: scale the data, or use dtype='float64'",
            RuntimeWarning,
            stacklevel=3,
        )
