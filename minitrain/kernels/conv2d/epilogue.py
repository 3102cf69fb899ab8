"""What follows a convolution while its result is in the cache; and the way back through it."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat, item
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import add, lanes_of, load, splat

__all__ = ["Epilogue", "backward_of_relu", "finish", "sum_plane", "sum_planes_of_channels"]


class Epilogue(NamedTuple):
    """What `finish` applies, as rows: the residual and the affine map may be empty. Inside of kernels only."""

    residual: Any
    relu: bool
    affine: Any


@device
def finish(residual, relu, affine, channel, offset, pitch, outs, length, target):
    """Finish a band that is still in the cache: add the residual, apply the ReLU, scale and shift, what there is.

    The band: `length` values of each of `outs` outputs, `pitch` apart, from target[offset] on. affine: a scale for each
    channel, then a shift for each; `channel` is that of the first output.
    """
    if not (residual.size or relu or affine.size):
        return
    for k in range(outs):
        first = offset + k * pitch
        row = target[first : first + length]
        if residual.size:
            other = residual[first : first + length]
            for i in range(length):
                row[i] += other[i]
        if relu:
            for i in range(length):
                row[i] = 0 if row[i] <= 0 else row[i]  # keeps NaN
        if affine.size:
            scale, shift = item(affine, channel + k), item(affine, affine.size // 2 + channel + k)
            for i in range(length):
                row[i] = row[i] * scale + shift


@kernel
def backward_of_relu(dy, y, partial, dz, dbias):
    """dz = dy where y > 0, else 0 dy; dbias[k] = sum of dz[:, k], or (0,). dy, y and dz (N, K, H, W).

    partial (N, K), float64, is working space. NaN goes the way it goes through `elementwise.leaky_relu_backward`.
    """
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    gradient, value, target, zero = flat(dy), flat(y), flat(dz), dy.dtype.type(0)
    size = channels * pixels
    for n in prange(images):
        begin = np.intp(n) * size
        image, signs, result = gradient[begin : begin + size], value[begin : begin + size], target[begin : begin + size]
        for i in range(result.size):
            result[i] = zero * image[i] if signs[i] <= zero else image[i]
        for k in range(dbias.size):
            partial[n, k] = sum_plane(result, k * pixels, pixels)
    for k in range(dbias.size):
        total = 0.0
        for n in range(images):
            total += partial[n, k]
        dbias[k] = total


@kernel
def sum_planes_of_channels(dy, dbias):
    """dbias[k] = sum of dy[n, k, p, q] over n, p, q: planes in the array's type, their sums in float64."""
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    source = flat(dy)
    for k in prange(channels):
        total = 0.0
        for n in range(images):
            total += sum_plane(source, (n * channels + k) * pixels, pixels)
        dbias[k] = total


@device
def sum_plane(source, offset, size):
    """Sum of source[offset : offset + size] in four vectors at a time, the first of which takes what remains."""
    lanes = lanes_of(source)
    whole = size // (4 * lanes) * 4 * lanes
    a = b = c = d = splat(source.dtype.type(0))
    for v in range(offset, offset + whole, 4 * lanes):
        a = add(a, load(source, v))
        b = add(b, load(source, v + lanes))
        c = add(c, load(source, v + 2 * lanes))
        d = add(d, load(source, v + 3 * lanes))
    for v in range(whole, size, lanes):
        a = add(a, load_between(source, offset + v, 0, size - v))
    return sum_lanes(add(add(a, b), add(c, d)))
