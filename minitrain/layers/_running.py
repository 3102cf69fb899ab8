"""How running statistics follow the batches: the weight of each batch, and what of it counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitrain.layer import Tensors
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_number, mismatch

__all__ = ["DEFAULT_MOMENTUM", "momentum_of", "move_by", "move_significant", "weight_of_batch"]

DEFAULT_MOMENTUM = 0.1


def momentum_of(momentum: float | None, period: float | None, debias: bool) -> float | None:
    """Return the weight of a batch from what a layer is given of the two; ValueError for both, or for no weight."""
    if momentum is not None:
        momentum = expect_number("momentum", momentum, 0.0, 1.0)
    if period is not None:
        own = 2.0 / (expect_number("period", period, 1.0) + 1.0)
        if momentum not in (DEFAULT_MOMENTUM, own):  # what a layer is made again from has both
            raise ValueError(mismatch("momentum, period", "one of the two", f"momentum {momentum} and period {period}"))
        momentum = own
    if debias and not momentum:
        expected = "a momentum above 0 (None, the mean of all batches, has no bias)"
        raise ValueError(mismatch("debias", expected, f"momentum {momentum}"))
    return momentum


def weight_of_batch(momentum: float | None, debias: bool, t: Tensors) -> Callable[[], float]:
    """Return the call that gives the weight of the batch that comes; it counts the batches where that matters."""

    def mean_of_all() -> float:
        t.num_batches[0] += 1
        return 1.0 / float(t.num_batches[0])

    if momentum is None:
        return mean_of_all
    constant = float(momentum)

    def without_bias() -> float:
        t.num_batches[0] += 1
        count = float(t.num_batches[0])
        return 1.0 if count == 1.0 else constant / (1.0 - (1.0 - constant) ** count)  # exactly: nothing of the start

    return without_bias if debias else lambda: constant


# Share of the ordinary weight with which the running statistics move towards what noise explains: without it they would
# freeze a few standard errors beside the truth; with all of it noise would come in as ever.
FLOOR = 0.1


def move_significant(
    running: tuple[Array, Array], batch: tuple[Array, Array], count: int, threshold: float, weight: float
) -> float:
    """Move running statistics by what `threshold` standard errors do not explain; return the share of channels.

    ``running += s + FLOOR * weight * (batch - running - s)`` with s the part of ``batch - running`` beyond so many
    standard errors (soft shrinkage; Gong et al., "NOTE", 2022, arXiv:2208.05117). Those of the mean and of the variance
    of `count` values are sqrt(var / count) and var sqrt(2 / (count - 1)), by the running variance. A weight of 1 takes
    the batch as it is: it is the first.

    Parameters
    ----------
    running, batch : pairs of arrays (C,)
        Mean and unbiased variance; the first pair is changed.

    Returns
    -------
    float
        Share of the channels of which either moved by more than the floor.
    """
    var = running[1].astype(np.float64)
    errors = np.sqrt(var / count), var * math.sqrt(2.0 / (count - 1))
    moved = np.zeros(var.shape, bool)
    for old, new, error in zip(running, batch, errors, strict=True):
        change = new - old
        beyond = np.sign(change) * np.maximum(np.abs(change) - threshold * error, 0.0)
        floor = 1.0 if weight == 1.0 else FLOOR * weight
        old[...] = old + (beyond + floor * (change - beyond))
        moved |= beyond != 0.0
    return float(moved.mean()) if moved.size else 0.0


def move_by(norm: Any, t: Any, count: int, batch: tuple[Array, Array]) -> None:
    """Move a norm's running statistics as its training does for a batch of `count` values of a channel.

    Parameters
    ----------
    norm : BatchNorm or ConditionalBatchNorm
    t : object
        Its state as attributes, which is changed.
    batch : pair of arrays (C,) of float64
        Mean and biased variance.
    """
    weight, running = norm.bind_momentum(t)(), (t.running_mean, t.running_var)
    mean, var = batch[0], batch[1] * (count / (count - 1))
    if getattr(norm, "threshold", None) is not None:
        t.moved_share[0] = move_significant(running, (mean, var), count, norm.threshold, weight)
        return
    for old, new in zip(running, (mean, var), strict=True):
        old[...] = (1.0 - weight) * old.astype(np.float64) + weight * new
