"""The norm of a flat gradient vector, and whether it is finite; both can leave out what is frozen."""

import math
from collections.abc import Sequence

from minitrain.kernels import gradients as kernels
from nbnorm.jit.arrays import Array

__all__ = ["all_finite", "gradient_norm"]


def gradient_norm(grads: Array, trained: Sequence[slice] | None = None) -> float:
    """Return the Euclidean norm of a flat, contiguous gradient vector, summed in float64 in a fixed order.

    Where `trained` is given, as by `ParameterRuns.trained`, nothing beside these slices is read.
    """
    if trained is None:
        return math.sqrt(kernels.sum_of_squares.for_work(grads.size)(grads))
    return math.sqrt(sum(kernels.sum_of_squares.for_work(each.size)(each) for each in (grads[run] for run in trained)))


def all_finite(grads: Array, trained: Sequence[slice] | None = None) -> bool:
    """Return whether no element of a flat, contiguous vector is infinite or a NaN.

    Where `trained` is given, as by `ParameterRuns.trained`, nothing beside these slices is read.
    """
    if trained is None:
        return bool(kernels.all_finite.for_work(grads.size // 4)(grads))
    return all(kernels.all_finite.for_work(each.size // 4)(each) for each in (grads[run] for run in trained))
