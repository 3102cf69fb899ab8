"""Convolution of NCHW arrays and its two gradients.

    y[n, k, p, q] = bias[k] + sum of weight[k, c, i, j] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]
                              over the channels c of k's group and the taps (i, j)

In float32 most 3 x 3 convolutions of stride 1 and their gradients are made with Winograd's F(4 x 4, 3 x 3), which needs
a quarter of the multiplications: see `winograd_plan.pays` and, on its accuracy, `winograd_transforms`.

Depthwise convolutions of stride 1 have kernels of their own, which read and write each plane once.

Every function overwrites its outputs and uses `scratch` freely. Results have the same bits for any number of threads.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from minitrain.kernels.conv2d.depthwise.cut import Depthwise
from minitrain.kernels.conv2d.depthwise.forward import correlate_planes
from minitrain.kernels.conv2d.depthwise.weight_gradient import sum_planes
from minitrain.kernels.conv2d.direct.cut import Correlation, rounded
from minitrain.kernels.conv2d.direct.forward import correlation_kernel
from minitrain.kernels.conv2d.direct.weight_gradient import weight_gradient_kernel
from minitrain.kernels.conv2d.direct.weights import pack_weights
from minitrain.kernels.conv2d.geometry import Conv2dGeometry, shared_geometry
from minitrain.kernels.conv2d.outer.weight_gradient import outer_product_kernel
from minitrain.kernels.conv2d.winograd.cut import Winograd
from minitrain.kernels.conv2d.winograd.forward import run_winograd
from minitrain.kernels.conv2d.winograd.weight_gradient import sum_winograd
from minitrain.kernels.conv2d.winograd.weights import transform_weights
from nbnorm.jit import device, kernel, prange
from nbnorm.kernels import statistics
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.vectors import LANES_FLOAT32, add, lanes_of, load, splat

__all__ = [
    "Conv2dGeometry", "backward_input", "backward_weight", "convolution", "forward", "normalization_shape",
    "prepare_weight", "shared_geometry", "sum_plane", "write_normalization",
]  # fmt: skip

Array = np.ndarray

NO_SCALE = np.empty(0)
NO_SUMS = np.empty((0, 0, 0, 0))
FLOPS_PER_ELEMENT = 16  # that a convolution does in the time of one element of an elementwise kernel


def forward(
    geometry: Conv2dGeometry,
    x: Array,
    weight: Array,
    bias: Array,
    scratch: Array,
    y: Array,
    normalization: Array | None = None,
    sums: Array | None = None,
    relu: bool = False,
) -> None:
    """Overwrite y (N, K, OH, OW) from x (N, C, H, W), weight (K, C / groups, kh, kw) and bias (K,) or (0,).

    With what `write_normalization` wrote, x is normalized on the way, and `sums` (geometry.sums_shape) are overwritten
    with what `combine_moments` reads: both in float32, for a geometry that uses Winograd's convolution. ReLU is applied
    to y where `relu` says so.
    """
    winograd = geometry.winograd_forward_plan if y.dtype == np.float32 else None
    plan = winograd or geometry.forward_plan
    _convolve(geometry, plan, x, weight, bias, normalization, None, relu, scratch, y, sums)


def backward_input(
    geometry: Conv2dGeometry, dy: Array, weight: Array, scratch: Array, dx: Array, before: Array | None = None
) -> None:
    """Overwrite dx (N, C, H, W), the gradient with respect to the input, from dy (N, K, OH, OW).

    `before`, another part of the gradient in an array of its own, is added to it.
    """
    winograd = geometry.winograd_input_gradient_plan if dx.dtype == np.float32 else None
    plan = winograd or geometry.input_gradient_plan
    _convolve(geometry, plan, dy, weight, scratch[:0], None, before, False, scratch, dx, None)


def _convolve(
    geometry: Conv2dGeometry,
    plan: Correlation | Depthwise | Winograd,
    source: Array,
    weight: Array,
    bias: Array,
    normalization: Array | None,
    residual: Array | None,
    relu: bool,
    scratch: Array,
    target: Array,
    sums: Array | None,
) -> None:
    packed, scratch, none = scratch[: plan.packed], scratch[rounded(plan.packed) :], scratch[:0]
    _pack(plan, weight, NO_SCALE, bias, packed)
    normalization, residual = (none if each is None else each for each in (normalization, residual))
    _bind(geometry, plan, source, normalization, packed, residual, none, relu, scratch, target, sums)()


def prepare_weight(
    geometry: Conv2dGeometry, weight: Array, bias: Array, packed: Array, scale: Array = NO_SCALE
) -> None:
    """Overwrite packed (geometry.packed_weight(),) from weight (K, C / groups, kh, kw) and bias (K,) or (0,).

    A scale (K,), in float64, multiplies the weights of each output channel, but not the bias. The weights are packed
    for Winograd's convolution and for the direct one, which is the faster of the two with few images.
    """
    first, winograd = geometry.packed_for_winograd(), geometry.winograd_plan_of_many
    if winograd is not None and packed.dtype == np.float32:
        _pack(winograd, weight, scale, bias, packed[:first])
    else:
        packed[:first] = 0
    _pack(geometry.forward_plan, weight, scale, bias, packed[first:])


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
    winograd = geometry.winograd_forward_plan if y.dtype == np.float32 else None
    plan = winograd or geometry.forward_plan
    packed = packed[: winograd.packed] if winograd is not None else packed[geometry.packed_for_winograd() :]
    return _bind(geometry, plan, x, scratch[:0], packed, residual, affine, relu, scratch, y)


def _pack(plan: Correlation | Depthwise | Winograd, weight: Array, scale: Array, bias: Array, packed: Array) -> None:
    kernel = transform_weights if isinstance(plan, Winograd) else pack_weights
    kernel.for_work(packed.size)(plan.weights, weight, scale, bias, packed)


def _bind(
    geometry: Conv2dGeometry,
    plan: Correlation | Depthwise | Winograd,
    source: Array,
    normalization: Array,
    packed: Array,
    residual: Array,
    affine: Array,
    relu: bool,
    scratch: Array,
    target: Array,
    sums: Array | None = None,
) -> Callable[[], None]:
    """Return the call of the kernel that the plan is for."""
    work, finish = geometry.flops // FLOPS_PER_ELEMENT, (packed, residual, affine, relu, scratch, target)
    if isinstance(plan, Winograd):
        sums = NO_SUMS if sums is None else sums
        return partial(run_winograd.for_work(work), plan.table, source, normalization, *finish, sums)
    if normalization.size or sums is not None:
        raise ValueError(f"normalization, sums: expected none for a convolution without Winograd's form, {geometry}")
    if isinstance(plan, Depthwise):
        return partial(correlate_planes.for_work(work), plan.table, source, *finish)
    return partial(correlation_kernel(*plan.tile).for_work(work), plan.tables[target.itemsize], source, *finish)


def backward_weight(
    geometry: Conv2dGeometry,
    dy: Array,
    x: Array,
    scratch: Array,
    dweight: Array,
    dbias: Array,
    normalization: Array | None = None,
) -> None:
    """Overwrite dweight (K, C / groups, kh, kw) and dbias (K,) or (0,) from dy and x, normalized as in `forward`."""
    work, size, outer = geometry.flops // FLOPS_PER_ELEMENT, x.itemsize, geometry.outer_product_plan
    winograd = geometry.winograd_weight_plan
    if winograd is not None and x.dtype == np.float32 and (geometry.pays_to_transform or normalization is not None):
        sum_winograd.for_work(work)(
            winograd.problem, winograd.planes, winograd.blocks, winograd.places, winograd.x_places, winograd.dy_places,
            dy, x, scratch[:0] if normalization is None else normalization, scratch, dweight
        )  # fmt: skip
    elif geometry.depthwise_weight_plan is not None:
        sum_planes.for_work(work)(geometry.depthwise_weight_plan.table, dy, x, scratch, dweight)
    elif outer is not None:
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


def normalization_shape(channels: int) -> tuple[int, int]:
    """Shape of what `write_normalization` writes."""
    return 4, -(-channels // LANES_FLOAT32) * LANES_FLOAT32


@kernel
def write_normalization(mean, inv_std, gamma, beta, normalization):
    """Overwrite normalization, which stands for x -> max((x - mean) * inv_std * gamma + beta, 0) in each channel.

    mean and inv_std (C,) in float64, gamma and beta (C,). The values are computed as batch norm's own kernels do.
    """
    for c in range(normalization.shape[1]):
        factors = normalization[:, c]
        factors[:] = 0
        if c < mean.size:
            factors[0], factors[1], factors[2] = statistics.factors(mean, inv_std, gamma, beta, c)


@kernel
def _sum_planes(dy, dbias):
    """dbias[k] = sum of dy[n, k, p, q] over n, p, q: planes in the array's type, their sums in float64."""
    images, channels, pixels = dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]
    source = flat(dy)
    for k in prange(channels):
        total = 0.0
        for n in range(images):
            total += sum_plane(source, (n * channels + k) * pixels, pixels)
        dbias[k] = total


@device
def sum_plane(source, at, size):
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
