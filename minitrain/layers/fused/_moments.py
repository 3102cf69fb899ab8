"""What the layers share that give or take the mean and variance of each channel as an output, `moments`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call
from minitrain.layer import Declaration, Layer, Shape, Spec, Tensors, array
from minitrain.layers._arrays import as_3d
from minitrain.layers._normalization import Normalization
from nbnorm.jit.arrays import Array, nothing
from nbnorm.kernels import batch_norm
from nbnorm.kernels.batch_norm.moments import combine_moments, take_moments

__all__ = ["bind_moments", "bind_statistics", "expect_moments", "moments_in_a_pass", "moments_of", "moments_spec",
           "with_moments"]  # fmt: skip


def moments_spec(channels: int) -> Spec:
    """Mean and biased variance of each channel, in float64; no gradient flows through them."""
    return Spec((2, channels), "float64", gradient=False)


def moments_of(x: Array, *_: Array) -> Array:
    """Compute them, for examples."""
    values = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype("float64")
    return np.array([values.mean(axis=1), values.var(axis=1)])


def expect_moments(layer: Layer, received: Spec, x: Shape) -> None:
    """Raise ValueError unless the last input is the moments of the first."""
    if received != moments_spec(x[1]):
        raise ValueError(f"{type(layer).__name__}: expected moments, {moments_spec(x[1])}, got {received}")


def with_moments(declared: Declaration, geometry: conv2d.Geometry) -> Declaration:
    """Add the moments of the output to a convolution's outputs, and what it needs to find them."""
    return replace(
        declared,
        outputs={**declared.outputs, "moments": moments_spec(geometry.out_channels)},
        scratch={**declared.scratch, "moment_sums": array(conv2d.sums_shape(geometry), "float64")},
    )


def bind_moments(t: Tensors, geometry: conv2d.Geometry) -> tuple[Array | None, Call]:
    """Return the sums that the convolution is to fill, None where it can not, and the call that makes t.moments.

    The call belongs after the convolution.
    """
    if conv2d.normalizes(geometry, conv2d.Product.FORWARD, dtype=t.y.dtype):
        return t.moment_sums, partial(combine_moments.serial, t.moment_sums, as_3d(t.y), t.moments)
    return None, moments_in_a_pass(t)


def moments_in_a_pass(t: Tensors) -> Call:
    """Return the call that makes t.moments of t.y by reading it."""
    y, (mean, var) = as_3d(t.y), t.moments
    unused, no_running = np.empty(y.shape[1], y.dtype), nothing(y.dtype)

    def run() -> None:
        batch_norm.statistics(y, unused, unused, no_running, no_running, 0.0, 0.0, mean, var)
        with np.errstate(divide="ignore"):
            np.power(var, -2.0, out=var)  # what was written is 1 / sqrt(var)

    return run


def bind_statistics(norm: Normalization, t: Tensors) -> Call:
    """Return the call that takes mean and inv_std of a norm from the moments, its last input.

    It moves the norm's running statistics.
    """
    x, momentum = t.xs[0], norm.bind_momentum(t)
    count, (running_mean, running_var) = x.size // x.shape[1], norm.running_of(t)

    def run() -> None:
        take_moments.serial(t.xs[-1], count, running_mean, running_var, momentum(), norm.eps, t.mean, t.inv_std)

    return run
