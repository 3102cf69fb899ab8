"""Arrays as kernels take them: their type, and the one that stands for none."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "nothing"]

Array = npt.NDArray[Any]


@cache
def nothing(dtype: npt.DTypeLike, ndim: int = 1) -> Array:
    """The empty array that stands for "no array" in a call of a kernel, whose arguments cannot be None.

    Its shape is (0,) * ndim, and all callers share it: there is nothing in it that one of them could change.

    It has the dtype and as many axes as what other calls give in its place, and is not marked as read-only: a kernel is
    compiled once more for an array of another type.
    """
    return np.empty((0,) * ndim, dtype)
