"""What the layers share that give or take the mean and variance of each channel as a side output, `moments`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minitrain.kernels import conv2d
from minitrain.layer import Declaration, Layer, Shape, Tensors, array
from minitrain.layers._normalization import Normalization, as_3d
from nbnorm.kernels import batch_norm
from nbnorm.kernels.batch_norm.moments import combine_moments, take_moments

__all__ = ["bind_moments", "expect_moments", "norm_forward_statistics", "with_moments", "write_moments"]


def moments_shape(channels: int) -> Shape:
    """Shape of mean and biased variance of each channel, in float64."""
    return 2, channels


def expect_moments(layer: Layer, received: Shape, x: Shape) -> None:
    """Raise ValueError unless the last input's shape is that of the moments of the first."""
    if received != moments_shape(x[1]):
        name = type(layer).__name__
        raise ValueError(f"{name}: expected moments of shape {moments_shape(x[1])}, got {received}")


def with_moments(declared: Declaration, geometry: conv2d.Conv2dGeometry) -> Declaration:
    """Add the moments of the output to a convolution's side outputs, and what it needs to find them."""
    return replace(
        declared,
        side_outputs={"moments": array(moments_shape(geometry.out_channels), "float64")},
        scratch={**declared.scratch, "moment_sums": array(geometry.sums_shape, "float64")},
    )


def bind_moments(t: Tensors) -> None:
    """Prepare `write_moments`: t.sums is what the convolution's kernel is to fill, or None where it can not."""
    t.sums = t.moment_sums if t.moment_sums.size and t.y.dtype == np.float32 else None
    channel = np.empty(t.y.shape[1], t.y.dtype)
    t.y3_of_moments, t.unused_factors, t.no_running = as_3d(t.y), channel, channel[:0]


def write_moments(t: Tensors) -> None:
    """Overwrite t.moments, after the convolution."""
    if t.sums is not None:
        combine_moments.serial(t.sums, t.y3_of_moments, t.moments)
        return
    mean, var = t.moments
    batch_norm.statistics(
        t.y3_of_moments, t.unused_factors, t.unused_factors, t.no_running, t.no_running, 0.0, 0.0, mean, var
    )
    with np.errstate(divide="ignore"):
        np.power(var, -2.0, out=var)  # what was written is 1 / sqrt(var)


def norm_forward_statistics(norm: Normalization, t: Tensors) -> None:
    """Overwrite mean and inv_std of a norm from the moments, its last input, and move its running statistics."""
    x = t.xs[0]
    take_moments.serial(
        t.xs[-1], x.size // x.shape[1], t.running_mean, t.running_var, norm.momentum_of(t), norm.eps, t.mean, t.inv_std
    )
