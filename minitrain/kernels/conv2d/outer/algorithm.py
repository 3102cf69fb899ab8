"""The weight gradient by outer products: x and dy with channels last, where there are enough outputs for that."""

from __future__ import annotations

from functools import partial

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.algorithm import Product, WeightGradient
from minitrain.kernels.conv2d.geometry import Geometry
from minitrain.kernels.conv2d.outer.weight_cut import pays_to_transpose, plan_outer_products
from minitrain.kernels.conv2d.outer.weight_gradient import outer_product_kernel
from nbnorm.jit.arrays import Array

__all__ = ["OuterWeightGradient"]


class OuterWeightGradient(WeightGradient):
    """The weight gradient: for each pixel the outer product of its outputs' gradients and what the taps see."""

    name = "outer products"

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        super().__init__(geometry, product, dtype)
        self._cut = plan_outer_products(geometry)
        self.scratch = self._cut.scratch

    @classmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        return True

    @classmethod
    def pays(cls, geometry: Geometry) -> bool:
        return pays_to_transpose(geometry)

    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        self.expect_plain(normalization)
        plan, size = self._cut, self.dtype.itemsize
        return partial(
            outer_product_kernel(*plan.tile).for_work(self.work), plan.problem, plan.planes, plan.steps, plan.blocks,
            plan.places, plan.vectors[size], plan.lane_places[size], plan.pixels, plan.x_places, plan.dy_places, dy, x,
            scratch, dweight,
        )  # fmt: skip
