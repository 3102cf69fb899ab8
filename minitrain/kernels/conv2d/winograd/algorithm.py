"""Winograd's F(4 x 4, 3 x 3): a quarter of the multiplications of a 3 x 3 convolution of stride 1, in float32."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.algorithm import FLOAT64, Correlation, Product, WeightGradient, or_nothing
from minitrain.kernels.conv2d.geometry import Geometry
from minitrain.kernels.conv2d.winograd import cut
from minitrain.kernels.conv2d.winograd.forward import run_winograd
from minitrain.kernels.conv2d.winograd.weight_cut import WinogradWeight, cut_winograd_weight, pays_to_transform
from minitrain.kernels.conv2d.winograd.weight_gradient import sum_winograd
from minitrain.kernels.conv2d.winograd.weights import transform_weights
from nbnorm.jit.arrays import Array

__all__ = ["WinogradCorrelation", "WinogradWeightGradient"]

NAME = "winograd 4x4"


class WinogradCorrelation(Correlation):
    """The forward pass, or the input gradient: a convolution of dy with the kernels turned around."""

    name = NAME
    normalizes = True

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = cut.cut_winograd(geometry, gradient=product is Product.INPUT_GRADIENT)
        self.packed, self.scratch, self.sums_shape = self._cut.packed, self._cut.scratch, self._cut.sums_shape

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return dtype == np.float32 and cut.fits(geometry)

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return cut.pays(geometry)

    def pack(self, weight: Array, bias: Array | None, packed: Array, scale: Array | None = None) -> Call:
        scale, bias = or_nothing(scale, FLOAT64, 1), or_nothing(bias, self.dtype, 1)
        return partial(transform_weights.for_work(packed.size), self._cut.weights, weight, scale, bias, packed)

    def bind(
        self,
        source: Array,
        packed: Array,
        scratch: Array,
        target: Array,
        *,
        residual: Array | None = None,
        affine: Array | None = None,
        relu: bool = False,
        normalization: Array | None = None,
        sums: Array | None = None,
    ) -> Call:
        residual, affine = or_nothing(residual, self.dtype, 4), or_nothing(affine, self.dtype, 2)
        normalization, sums = or_nothing(normalization, self.dtype, 2), or_nothing(sums, FLOAT64, 4)
        return partial(
            run_winograd.for_work(self.work), self._cut.row, source, normalization, packed, residual, affine, relu,
            scratch, target, sums,
        )  # fmt: skip


class WinogradWeightGradient(WeightGradient):
    """The weight gradient: the transposed transforms of the tiles of x and dy, multiplied and summed over tiles."""

    name = NAME
    normalizes = True

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = _weight_cut(geometry)
        self.scratch = self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return dtype == np.float32 and cut.fits(geometry)

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return pays_to_transform(geometry, _weight_cut(geometry))

    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        normalization = or_nothing(normalization, self.dtype, 2)
        return partial(sum_winograd.for_work(self.work), self._cut.row, dy, x, normalization, scratch, dweight)


@lru_cache(maxsize=64)
def _weight_cut(geometry: Geometry) -> WinogradWeight:
    """The cut, on which it depends whether it pays."""
    return cut_winograd_weight(geometry)
