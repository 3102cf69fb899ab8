"""Whether a model's state is finite: statistics that overflow make predictions constant, and no loss says so."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitrain.model.model import Model
from minitrain.optimizers import all_finite
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS

# Elements up to which a product with zeros is asked: larger ones go to the kernel, which uses all threads.
SMALL = 4096

__all__ = ["broken_state", "state_is_finite", "state_vectors"]


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
        if former == each.dtype:
            runs[-1] = (runs[-1][0], begin + each.nbytes, each.dtype)
        else:
            runs.append((begin, begin + each.nbytes, each.dtype))
        former = each.dtype
    return tuple(memory[begin:end].view(dtype) for begin, end, dtype in runs)


def state_is_finite(vectors: tuple[Array, ...], zeros: tuple[Array, ...]) -> bool:
    """Return whether all of the vectors are finite; `zeros` are as many of the same sizes."""
    for vector, zero in zip(vectors, zeros, strict=True):
        # A product takes a third of the time of our kernel's call: most of what a small net's state costs.
        finite = vector.dot(zero) == 0 if vector.size <= SMALL else all_finite(vector)
        if not finite:
            return False
    return True


def broken_state(model: Model) -> str | None:
    """Name the first array of the state that is not finite; None where all are."""
    for name, each in model.state.items():
        if each.dtype in FLOATS and not all_finite(each.reshape(-1)):
            return name
    return None
