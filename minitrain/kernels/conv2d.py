"""Convolution of NCHW arrays and its two gradients.

    y[n, k, p, q] = bias[k] + sum of weight[k, c, i, j] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]
                              over the channels c of k's group and the taps (i, j)

Every function overwrites its outputs and uses `scratch` freely. Results have the same bits for any number of threads.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from minitrain.kernels.conv2d_correlate import correlation_kernel
from minitrain.kernels.conv2d_geometry import Conv2dGeometry
from minitrain.kernels.conv2d_pack_weights import pack_weights
from minitrain.kernels.conv2d_plan import Correlation, rounded
from minitrain.kernels.conv2d_weight import weight_gradient_kernel
from minitrain.kernels.conv2d_weight_outer import outer_product_kernel
from nbnorm._jit import device, kernel, prange
from nbnorm.simd.lanes import load_between, sum_lanes
from nbnorm.simd.vectors import add, flat, lanes_of, load, splat

__all__ = ["Conv2dGeometry", "backward_input", "backward_weight", "convolution", "forward", "prepare_weight"]

Array = np.ndarray

NO_SCALE = np.empty(0)
FLOPS_PER_ELEMENT = 16  # that a convolution does in the time of one element of an elementwise kernel


def forward(geometry: Conv2dGeometry, x: Array, weight: Array, bias: Array, scratch: Array, y: Array) -> None:
    """Overwrite y (N, K, OH, OW) from x (N, C, H, W), weight (K, C / groups, kh, kw) and bias (K,) or (0,)."""
    plan = geometry.forward_plan
    packed, scratch, none = scratch[: plan.packed], scratch[rounded(plan.packed) :], scratch[:0]
    _pack(plan, weight, NO_SCALE, bias, packed)
    _kernel(geometry, plan)(plan.tables[y.itemsize], x, packed, none, none, False, scratch, y)


def backward_input(geometry: Conv2dGeometry, dy: Array, weight: Array, scratch: Array, dx: Array) -> None:
    """Overwrite dx (N, C, H, W), the gradient with respect to the input, from dy (N, K, OH, OW)."""
    plan = geometry.input_gradient_plan
    packed, scratch, none = scratch[: plan.packed], scratch[rounded(plan.packed) :], scratch[:0]
    _pack(plan, weight, NO_SCALE, none, packed)
    _kernel(geometry, plan)(plan.tables[dx.itemsize], dy, packed, none, none, False, scratch, dx)


def prepare_weight(
    geometry: Conv2dGeometry, weight: Array, bias: Array, packed: Array, scale: Array = NO_SCALE
) -> None:
    """Overwrite packed (geometry.packed_weight(),) from weight (K, C / groups, kh, kw) and bias (K,) or (0,).

    A scale (K,), in float64, multiplies the weights of each output channel, but not the bias.
    """
    _pack(geometry.forward_plan, weight, scale, bias, packed)


def convolution(
    geometry: Conv2dGeometry,
    x: Array,
    packed: Array,
    residual: Array,
    affine: Array,
    relu: bool,
    scratch: Array,
    y: Array,
) -> Callable[[], None]:
    """Return the call that overwrites y (N, K, OH, OW) with the convolution of x (N, C, H, W) by packed weights.

    The residual, of y's shape, is added to it; then ReLU is applied where `relu` says so; then y becomes
    affine[0] * y + affine[1], of affine (2, K). All this while y is in the cache. An empty residual or affine is none.
    `packed` is what `prepare_weight` wrote by the time of the call.
    """
    plan = geometry.forward_plan
    return partial(_kernel(geometry, plan), plan.tables[y.itemsize], x, packed, residual, affine, relu, scratch, y)


def _pack(plan: Correlation, weight: Array, scale: Array, bias: Array, packed: Array) -> None:
    pack_weights.for_work(packed.size)(plan.weights, weight, scale, bias, packed)


def _kernel(geometry: Conv2dGeometry, plan: Correlation) -> Callable[..., None]:
    return correlation_kernel(*plan.tile).for_work(geometry.flops // FLOPS_PER_ELEMENT)


def backward_weight(
    geometry: Conv2dGeometry, dy: Array, x: Array, scratch: Array, dweight: Array, dbias: Array
) -> None:
    """Overwrite dweight (K, C / groups, kh, kw) and dbias (K,) or (0,) from dy and x."""
    work, size, outer = geometry.flops // FLOPS_PER_ELEMENT, x.itemsize, geometry.outer_product_plan
    if outer is not None:
        outer_product_kernel(*outer.tile).for_work(work)(
            outer.problem, outer.planes, outer.steps, outer.blocks, outer.places, outer.vectors[size],
            outer.lane_places[size], outer.pixels, outer.x_places, outer.dy_places, dy, x, scratch, dweight
        )  # fmt: skip
    else:
        plan = geometry.weight_gradient_plan
        weight_gradient_kernel(*plan.tile).for_work(work)(
            plan.problem, plan.planes, plan.steps, plan.blocks, plan.places, plan.segments[size],
            plan.vectors[size], plan.offsets, dy, x, scratch, dweight
        )  # fmt: skip
    if dbias.size:
        _sum_planes.for_work(dy.size)(dy, dbias)


@kernel
def _sum_planes(dy, dbias):
    """dbias[k] = sum of dy[n, k, p, q] over n, p, q: planes in the array's type, their sums in float64."""
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    source = flat(dy)
    for k in prange(channels):
        total = 0.0
        for n in range(images):
            total += _sum_plane(source, (n * channels + k) * pixels, pixels)
        dbias[k] = total


@device
def _sum_plane(source, at, size):
    """Sum of source[at : at + size] in four vectors at a time, the first of which takes what remains."""
    lanes = lanes_of(source)
    whole = size // (4 * lanes) * 4 * lanes
    a = b = c = d = splat(source.dtype.type(0))
    for v in range(at, at + whole, 4 * lanes):
        a = add(a, load(source, v))
        b = add(b, load(source, v + lanes))
        c = add(c, load(source, v + 2 * lanes))
        d = add(d, load(source, v + 3 * lanes))
    for v in range(whole, size, lanes):
        a = add(a, load_between(source, at + v, 0, size - v))
    return sum_lanes(add(add(a, b), add(c, d)))
