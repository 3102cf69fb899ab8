"""The weight gradient by outer products: x and dy with channels last, where there are enough outputs for that."""

from __future__ import annotations

from functools import partial

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.algorithm import Product, WeightGradient
from minitrain.kernels.conv2d.geometry import Geometry
from minitrain.kernels.conv2d.outer.weight_cut import cut_outer_products, pays_to_transpose
from minitrain.kernels.conv2d.outer.weight_gradient import outer_product_kernel
from nbnorm.jit.arrays import Array

__all__ = ["OuterWeightGradient"]


class OuterWeightGradient(WeightGradient):
    """The weight gradient: for each pixel the outer product of its outputs' gradients and what the taps see."""

    name = "outer products"

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = cut_outer_products(geometry, dtype.itemsize)
        self.scratch = self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return True

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return pays_to_transpose(geometry)

    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        self.expect_plain(normalization)
        run = outer_product_kernel(*self._cut.tile).for_work(self.work)
        return partial(run, self._cut.row, dy, x, scratch, dweight)
