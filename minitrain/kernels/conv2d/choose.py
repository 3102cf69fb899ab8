"""Which algorithm makes which product of a convolution: the only place that knows them all.

In float32 most 3 x 3 convolutions of stride 1 and their gradients are made with Winograd's F(4 x 4, 3 x 3); depthwise
convolutions of stride 1 have kernels of their own; the rest is direct, but for weight gradients with enough outputs,
which are sums of outer products.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, overload

import numpy as np

from minitrain.kernels.conv2d.algorithm import Correlation, Product, WeightGradient
from minitrain.kernels.conv2d.cutting import rounded
from minitrain.kernels.conv2d.depthwise.algorithm import DepthwiseCorrelation, DepthwiseWeightGradient
from minitrain.kernels.conv2d.direct.algorithm import DirectCorrelation, DirectWeightGradient
from minitrain.kernels.conv2d.geometry import Geometry
from minitrain.kernels.conv2d.outer.algorithm import OuterWeightGradient
from minitrain.kernels.conv2d.winograd.algorithm import WinogradCorrelation, WinogradWeightGradient

__all__ = [
    "choose", "choose_for_inference", "names_of_algorithms", "normalizes", "packed_size", "scratch_size", "sums_shape",
]  # fmt: skip

# The first that fits and pays is chosen.
CORRELATIONS: tuple[type[Correlation], ...] = (WinogradCorrelation, DepthwiseCorrelation, DirectCorrelation)
WEIGHT_GRADIENTS: tuple[type[WeightGradient], ...] = (
    WinogradWeightGradient,
    DepthwiseWeightGradient,
    OuterWeightGradient,
    DirectWeightGradient,
)

DTYPES = np.dtype(np.float32), np.dtype(np.float64)  # sizes are declared before the dtype is known
MANY_IMAGES = 1024  # as many make Winograd's convolution pay wherever any number of images does
MOST_CHOICES = 1024  # that are kept: a cut takes a millisecond, and each plan of a model asks for it several times

_ForwardOrInput = Literal[Product.FORWARD, Product.INPUT_GRADIENT]


@overload
def choose(geometry: Geometry, product: _ForwardOrInput, dtype: np.dtype) -> Correlation: ...
@overload
def choose(
    geometry: Geometry, product: Literal[Product.WEIGHT_GRADIENT], dtype: np.dtype, *, normalizing: bool = False
) -> WeightGradient: ...
def choose(
    geometry: Geometry, product: Product, dtype: np.dtype, *, normalizing: bool = False
) -> Correlation | WeightGradient:
    """Return the algorithm that makes a product: the first that fits and pays.

    A weight gradient may have to be `normalizing`. Then the first that can do that and fits is chosen, whether it pays
    or not: it saves the normalized x. There is one where the forward pass that is chosen `normalizes`.
    """
    if product is Product.WEIGHT_GRADIENT:
        return _weight_gradient(_kind_of_weight_gradient(geometry, dtype, normalizing), geometry, dtype)
    return _correlation(_kind_of_correlation(geometry, dtype), geometry, product, dtype)


def _kind_of_correlation(geometry: Geometry, dtype: np.dtype) -> type[Correlation]:
    return next(each for each in CORRELATIONS if each.fits(geometry, dtype) and each.pays(geometry))


def _kind_of_weight_gradient(geometry: Geometry, dtype: np.dtype, normalizing: bool) -> type[WeightGradient]:
    for each in WEIGHT_GRADIENTS:
        if each.fits(geometry, dtype) and (each.normalizes if normalizing else each.pays(geometry)):
            return each
    raise ValueError(f"normalization: expected none for a weight gradient of {geometry} in {dtype}")


@lru_cache(MOST_CHOICES)
def _correlation(kind: type[Correlation], geometry: Geometry, product: Product, dtype: np.dtype) -> Correlation:
    return kind(geometry, product, dtype)


@lru_cache(MOST_CHOICES)
def _weight_gradient(kind: type[WeightGradient], geometry: Geometry, dtype: np.dtype) -> WeightGradient:
    return kind(geometry, Product.WEIGHT_GRADIENT, dtype)


def choose_for_inference(geometry: Geometry, dtype: np.dtype) -> tuple[Correlation, ...]:
    """Return the one or two algorithms of the forward pass that different numbers of images choose.

    Weights that are prepared for inference are packed for each of them, one behind the other.
    """
    kinds = [_kind_of_correlation(geometry.with_images(images), dtype) for images in (MANY_IMAGES, 1)]
    return tuple(_correlation(kind, geometry, Product.FORWARD, dtype) for kind in dict.fromkeys(kinds))


def names_of_algorithms(geometry: Geometry, dtype: np.dtype, *, normalizing: bool = False) -> dict[str, str]:
    """Name what is chosen for each product, the weight gradient `normalizing` or not."""
    correlation = _kind_of_correlation(geometry, dtype)
    names = {product.value: correlation.name for product in (Product.FORWARD, Product.INPUT_GRADIENT)}
    return names | {Product.WEIGHT_GRADIENT.value: _kind_of_weight_gradient(geometry, dtype, normalizing).name}


def normalizes(geometry: Geometry, *products: Product, dtype: np.dtype = DTYPES[0]) -> bool:
    """Whether what is chosen for these products, the forward pass or the weight gradient, can normalize x.

    Unless a dtype is given, it is about float32: fusions are made for that, and are right, if slow, in float64.
    """
    kinds = {
        Product.FORWARD: _kind_of_correlation(geometry, dtype),
        Product.WEIGHT_GRADIENT: _kind_of_weight_gradient(geometry, dtype, normalizing=False),
    }
    return all(kinds[product].normalizes for product in products)


def packed_size(geometry: Geometry) -> int:
    """Elements of the weights that are prepared for inference: enough for any number of images, in either dtype."""
    return max(sum(each.packed for each in choose_for_inference(geometry, dtype)) for dtype in DTYPES)


def scratch_size(geometry: Geometry, product: Product, *, normalizing: bool = False) -> int:
    """Elements of scratch that a product takes, in either dtype; packed weights of training are part of it."""
    if product is Product.WEIGHT_GRADIENT:
        return _scratch_of_weight_gradient(geometry, normalizing)
    kinds = {_kind_of_correlation(geometry, dtype): dtype for dtype in reversed(DTYPES)}
    correlations = [_correlation(kind, geometry, product, dtype) for kind, dtype in kinds.items()]
    return max(rounded(each.packed) + each.scratch for each in correlations)


def _scratch_of_weight_gradient(geometry: Geometry, normalizing: bool) -> int:
    kinds = {_kind_of_weight_gradient(geometry, dtype, normalizing=False): dtype for dtype in reversed(DTYPES)}
    if normalizing:
        kinds[_kind_of_weight_gradient(geometry, DTYPES[0], normalizing)] = DTYPES[0]
    return max(_weight_gradient(kind, geometry, dtype).scratch for kind, dtype in kinds.items())


def sums_shape(geometry: Geometry) -> tuple[int, int, int, int]:
    """Shape of the sums of moments that `forward` writes in float32; of size 0 where it does not."""
    return choose(geometry, Product.FORWARD, DTYPES[0]).sums_shape
