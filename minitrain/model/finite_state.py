"""Whether a model's state is finite: statistics that overflow make predictions constant, and no loss says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minitrain.kernels import gradients as kernels
from minitrain.model.model import Model
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS

__all__ = ["finite_checks", "state_vectors"]


def state_vectors(model: Model) -> tuple[Array, ...]:
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


def finite_checks(model: Model) -> tuple[Callable[[], bool], ...]:
    """Return functions that say whether the floats in a model's state are finite: what runs in each step."""
    return tuple(partial(kernels.all_finite.for_work(each.size // 4), each) for each in state_vectors(model))
