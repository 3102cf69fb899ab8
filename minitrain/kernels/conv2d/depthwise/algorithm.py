"""Depthwise convolutions of stride 1, plane by plane: each is read and written once."""

from __future__ import annotations

from functools import partial

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.algorithm import FLOAT64, Correlation, Product, WeightGradient, or_nothing
from minitrain.kernels.conv2d.depthwise.cut import cut_depthwise, is_depthwise
from minitrain.kernels.conv2d.depthwise.forward import correlate_planes
from minitrain.kernels.conv2d.depthwise.weight_cut import cut_depthwise_weight
from minitrain.kernels.conv2d.depthwise.weight_gradient import sum_planes
from minitrain.kernels.conv2d.direct.weights import pack_weights
from minitrain.kernels.conv2d.geometry import Geometry
from nbnorm.jit.arrays import Array

__all__ = ["DepthwiseCorrelation", "DepthwiseWeightGradient"]

NAME = "depthwise"


class DepthwiseCorrelation(Correlation):
    """The forward pass, or the input gradient: a convolution of dy with the kernels turned around."""

    name = NAME

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = cut_depthwise(geometry, gradient=product is Product.INPUT_GRADIENT)
        self.packed, self.scratch = self._cut.packed, self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return is_depthwise(geometry)

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return True

    def pack(self, weight: Array, bias: Array | None, packed: Array, scale: Array | None = None) -> Call:
        scale, bias = or_nothing(scale, FLOAT64, 1), or_nothing(bias, self.dtype, 1)
        return partial(pack_weights.for_work(packed.size), self._cut.weights, weight, scale, bias, packed)

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
        self.expect_plain(normalization, sums)
        residual, affine = or_nothing(residual, self.dtype, 4), or_nothing(affine, self.dtype, 2)
        run = correlate_planes.for_work(self.work)
        return partial(run, self._cut.row, source, packed, residual, affine, relu, scratch, target)


class DepthwiseWeightGradient(WeightGradient):
    """The weight gradient: dot products of shifted planes."""

    name = NAME

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = cut_depthwise_weight(geometry)
        self.scratch = self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return is_depthwise(geometry)

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return True

    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        self.expect_plain(normalization)
        return partial(sum_planes.for_work(self.work), self._cut.row, dy, x, scratch, dweight)
