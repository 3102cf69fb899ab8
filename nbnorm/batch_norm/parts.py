"""What the calls of batch norm have in common: their results, and checks of their arguments."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, mismatch
from nbnorm.layout import Layout, expect_apart, takes

ACTIVATIONS = (None, "relu")


class BatchNormStats(NamedTuple):
    """What `batch_norm_forward` found in its batch, and `batch_norm_backward` needs."""

    mean: Array  #: float64 (C,)
    inv_std: Array  #: float64 (C,): 1 / sqrt(biased variance + eps)


class RenormStats(BatchNormStats):
    """What `batch_norm_forward` found in its batch with ``renorm``: its statistics, and how far they are from others.

    Constants of the backward pass, float64 (C,): ``x_hat = (x - mean) * inv_std * r + d``.
    """

    r: Array
    d: Array

    def __new__(cls, mean: Array, inv_std: Array, r: Array, d: Array) -> "RenormStats":
        """Make a pair with two attributes."""
        made = super().__new__(cls, mean, inv_std)
        made.r, made.d = r, d
        return made

    def __getnewargs__(self) -> tuple[Array, ...]:  # type: ignore[override]
        return self.mean, self.inv_std, self.r, self.d


class BatchNormGradients(NamedTuple):
    """What `batch_norm_backward` returns; a part that does not apply is None."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dresidual: Any


def expect_gradients_apart(dgamma: Any, dbeta: Any, others: tuple[tuple[str, Any], ...]) -> None:
    if dgamma is not None:
        expect_apart("out.dgamma", dgamma, (*others, ("out.dbeta", dbeta)))
    if dbeta is not None:
        expect_apart("out.dbeta", dbeta, others)


def expect_running_apart(running: tuple[Any, Any], read: tuple[tuple[str, Any], ...]) -> None:
    """Raise ValueError where running statistics, which a call moves, lie in the memory of what it reads."""
    mean, var = running
    if mean is not None:
        expect_apart("running_mean", mean, (*read, ("running_var", var)))
    if var is not None:
        expect_apart("running_var", var, read)


NO_GRADIENTS = (None, None, None, None)


def parts_of(out: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    """The caller's arrays for dx, dgamma, dbeta and dresidual; None for those that are to be made."""
    if out is None:
        return NO_GRADIENTS
    if not isinstance(out, tuple):
        return out, None, None, None
    if len(out) != 4:
        raise ValueError(mismatch("out", "an array or a tuple (dx, dgamma, dbeta, dresidual)", f"{len(out)} parts"))
    if out[3] is not None and y is None:
        raise ValueError(mismatch("out.dresidual", "None without y", type(out[3]).__name__))
    return out


def scale_and_shift(layout: Layout, gamma: Any, beta: Any) -> tuple[Array, Array]:
    """gamma and beta as the kernels take them; ones and zeros, which are not to be written into, by default."""
    return (
        _filled(1.0, layout.view[1], layout.dtype) if gamma is None else layout.vector("gamma", gamma),
        _filled(0.0, layout.view[1], layout.dtype) if beta is None else layout.vector("beta", beta),
    )


@lru_cache(maxsize=8)
def _filled(value: float, channels: int, dtype: np.dtype[Any]) -> Array:
    return np.full(channels, value, dtype)


# What to write where statistics were given that are not a batch's.
BY_RUNNING_STATISTICS = (
    "for the gradients of batch_norm_infer leave stats out and pass running_mean=, running_var= and eps="
)


def read_stats(layout: Layout, stats: Any, remedy: str) -> tuple[Array, Array]:
    """Mean and inverse standard deviation as the kernels take them.

    A pair of arrays would do, but so would (running_mean, running_var) then: wrong numbers without a word.
    """
    if not isinstance(stats, BatchNormStats):
        expected = "the BatchNormStats that batch_norm_forward returned"
        raise TypeError(f"{mismatch('stats', expected, type(stats).__name__)}; {remedy}")
    mean, inv_std = stats
    if takes(mean, layout.channels, FLOATS[1]) and takes(inv_std, layout.channels, FLOATS[1]):
        return mean, inv_std
    wide = Layout(layout.shape, layout.view, layout.channels, False, FLOATS[1])
    return wide.vector("stats.mean", mean), wide.vector("stats.inv_std", inv_std)
