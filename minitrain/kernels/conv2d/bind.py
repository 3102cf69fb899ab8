"""Convolution of NCHW arrays and its two gradients, bound to their arrays.

    y[n, k, p, q] = bias[k] + sum of weight[k, c, i, j] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]
                              over the channels c of k's group and the taps (i, j)

Each function chooses the algorithm (`choose`) and returns a call without arguments, which computes and decides nothing.
Such a call overwrites its outputs and uses `scratch` freely. Results have the same bits for any number of threads.
"""

from __future__ import annotations

from functools import partial

from minitrain.kernels.calls import Call, in_order
from minitrain.kernels.conv2d.algorithm import Correlation, Product
from minitrain.kernels.conv2d.choose import choose, choose_for_inference
from minitrain.kernels.conv2d.cutting import rounded
from minitrain.kernels.conv2d.epilogue import sum_planes_of_channels
from minitrain.kernels.conv2d.geometry import Geometry
from nbnorm.jit.arrays import Array
from nbnorm.kernels.batch_norm.fold import normalization_shape, write_normalization

__all__ = [
    "convolution", "forward", "input_gradient", "normalization_shape", "prepare_weight", "weight_gradient",
    "write_normalization",
]  # fmt: skip


def forward(
    geometry: Geometry,
    x: Array,
    weight: Array,
    bias: Array | None,
    scratch: Array,
    y: Array,
    *,
    normalization: Array | None = None,
    sums: Array | None = None,
    relu: bool = False,
) -> Call:
    """Return the call that overwrites y (N, K, OH, OW).

    It reads x (N, C, H, W), weight (K, C / groups, kh, kw) and bias (K,), packs the weights and convolves. With what
    `write_normalization` wrote, x is normalized on the way, and `sums` (of `sums_shape`) are overwritten with what
    `combine_moments` reads: both where the algorithm `normalizes`. ReLU is applied to y where `relu` says so.
    """
    algorithm = choose(geometry, Product.FORWARD, y.dtype)
    packed, scratch = _divided(scratch, algorithm)
    return in_order(
        algorithm.pack(weight, bias, packed),
        algorithm.bind(x, packed, scratch, y, relu=relu, normalization=normalization, sums=sums),
    )


def input_gradient(
    geometry: Geometry, dy: Array, weight: Array, scratch: Array, dx: Array, before: Array | None = None
) -> Call:
    """Return the call that overwrites dx (N, C, H, W), the gradient of the input, from dy (N, K, OH, OW).

    `before`, another part of the gradient in an array of its own, is added to it.
    """
    algorithm = choose(geometry, Product.INPUT_GRADIENT, dx.dtype)
    packed, scratch = _divided(scratch, algorithm)
    return in_order(
        algorithm.pack(weight, None, packed),
        algorithm.bind(dy, packed, scratch, dx, residual=before),
    )


def _divided(scratch: Array, algorithm: Correlation) -> tuple[Array, Array]:
    """The part of the scratch that packed weights take, and the rest."""
    return scratch[: algorithm.packed], scratch[rounded(algorithm.packed) :]


def weight_gradient(
    geometry: Geometry,
    dy: Array,
    x: Array,
    scratch: Array,
    dweight: Array | None,
    dbias: Array | None,
    normalization: Array | None = None,
) -> Call:
    """Return the call that overwrites dweight (K, C / groups, kh, kw) and dbias (K,) from dy and x.

    Either is None where it is not wanted; only dweight needs x. With a normalization, x is normalized as in `forward`,
    which must be able to do that.
    """
    normalizing = normalization is not None
    algorithm = choose(geometry, Product.WEIGHT_GRADIENT, x.dtype, normalizing=normalizing)
    return in_order(
        None if dweight is None else algorithm.bind(dy, x, scratch, dweight, normalization),
        None if dbias is None else partial(sum_planes_of_channels.for_work(dy.size), dy, dbias),
    )


def prepare_weight(
    geometry: Geometry, weight: Array, bias: Array | None, packed: Array, scale: Array | None = None
) -> Call:
    """Return the call that overwrites packed (`packed_size`,) from weight (K, C / groups, kh, kw) and bias (K,).

    A scale (K,), in float64, multiplies the weights of each output channel, but not the bias. The weights are packed
    for each algorithm that some number of images chooses.
    """
    calls, first = [], 0
    for algorithm in choose_for_inference(geometry, packed.dtype):
        calls.append(algorithm.pack(weight, bias, packed[first : first + algorithm.packed], scale))
        first += algorithm.packed
    unused = packed[first:]  # by this dtype
    return in_order(*calls, partial(unused.fill, 0) if unused.size else None)


def convolution(
    geometry: Geometry,
    x: Array,
    packed: Array,
    residual: Array | None,
    affine: Array | None,
    relu: bool,
    scratch: Array,
    y: Array,
) -> Call:
    """Return the call that overwrites y (N, K, OH, OW) with the convolution of x (N, C, H, W) by packed weights.

    The residual, of y's shape, is added to it; then ReLU is applied where `relu` says so; then y becomes
    affine[0] * y + affine[1], of affine (2, K). All this while y is in the cache. `packed` is what `prepare_weight`
    wrote by the time of the call.
    """
    algorithm, first = choose(geometry, Product.FORWARD, y.dtype), 0
    for each in choose_for_inference(geometry, y.dtype):
        if type(each) is type(algorithm):
            break
        first += each.packed
    packed = packed[first : first + algorithm.packed]
    return algorithm.bind(x, packed, scratch, y, residual=residual, affine=affine, relu=relu)
