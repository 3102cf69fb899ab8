"""The direct convolution of packed planes in register tiles: fits every geometry and dtype."""

from __future__ import annotations

from functools import partial

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.algorithm import FLOAT64, Correlation, Product, WeightGradient, or_nothing
from minitrain.kernels.conv2d.direct.cut import cut_forward, cut_input_gradient
from minitrain.kernels.conv2d.direct.forward import correlation_kernel
from minitrain.kernels.conv2d.direct.weight_cut import cut_weight_gradient
from minitrain.kernels.conv2d.direct.weight_gradient import weight_gradient_kernel
from minitrain.kernels.conv2d.direct.weights import pack_weights
from minitrain.kernels.conv2d.geometry import Geometry
from nbnorm.jit.arrays import Array

__all__ = ["DirectCorrelation", "DirectWeightGradient"]

NAME = "direct"

# Pixels of a row, at most, that the rows of a 1 x 1 convolution are joined to. Longer: a single image has too few bands
# for several threads. Shorter: more vectors end in the middle of a row. Found with `benchmarks.peers conv` on 4 cores
# of an AVX-512 Xeon, 2026-11.
LONG_ROW = 512


class DirectCorrelation(Correlation):
    """The forward pass, or the input gradient."""

    name = NAME

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        cut = cut_input_gradient if product is Product.INPUT_GRADIENT else cut_forward
        self._cut = cut(geometry.with_long_rows(LONG_ROW), dtype.itemsize)
        self.packed, self.scratch = self._cut.packed, self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return True

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
        run = correlation_kernel(*self._cut.tile).for_work(self.work)
        return partial(run, self._cut.row, source, packed, residual, affine, relu, scratch, target)


class DirectWeightGradient(WeightGradient):
    """The weight gradient: dot products of packed planes with dy, over pixels."""

    name = NAME

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = cut_weight_gradient(geometry.with_long_rows(LONG_ROW), dtype.itemsize)
        self.scratch = self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return True

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return True

    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        self.expect_plain(normalization)
        run = weight_gradient_kernel(*self._cut.tile).for_work(self.work)
        return partial(run, self._cut.row, dy, x, scratch, dweight)
