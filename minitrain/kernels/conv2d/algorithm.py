"""What an algorithm of the convolution says about itself, and how it is given its arrays.

An algorithm makes one of three products. The forward pass and the input gradient are correlations: a source, slid over
weights in an order that suits the kernel. The weight gradient is summed from the output's gradient and the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

import numpy as np

from minitrain.kernels.calls import Call
from minitrain.kernels.conv2d.geometry import Geometry
from nbnorm.jit.arrays import Array, nothing

__all__ = ["FLOAT64", "Algorithm", "Correlation", "Product", "WeightGradient", "or_nothing"]

FLOAT64 = np.dtype(np.float64)  # of scales and of sums of moments, whatever the arrays are

# Operations that a convolution does in the time that an elementwise kernel takes for an element: that many are counted
# as one when threads are wanted for a large piece of work and not for a small one. More: small convolutions stay on one
# thread that gain from several. Fewer: they wake threads for less time than waking takes. Found with `benchmarks.peers
# training-step` on 4 cores of an AVX-512 Xeon, 2026-11.
FLOPS_PER_ELEMENT = 16


class Product(Enum):
    """The three products of a convolution."""

    FORWARD = "forward"
    INPUT_GRADIENT = "input gradient"
    WEIGHT_GRADIENT = "weight gradient"


class Algorithm(ABC):
    """One way to make one product of a convolution, for one geometry and dtype.

    Attributes
    ----------
    name : str
        What `Model.summary` and `Trainer.profile` print.
    normalizes : bool
        Whether it can normalize x while it packs it. A forward pass that does finds moments of y on its way, too.
    scratch : int
        Elements of scratch that it needs, as many in either dtype.
    """

    name: ClassVar[str]
    normalizes: ClassVar[bool] = False
    scratch: int

    def __init__(self, geometry: Geometry, product: Product, dtype: np.dtype) -> None:
        self.geometry = geometry
        self.product = product
        self.dtype = dtype

    @classmethod
    @abstractmethod
    def fits(cls, geometry: Geometry, dtype: np.dtype) -> bool:
        """Whether it can make the product at all."""

    @classmethod
    @abstractmethod
    def pays(cls, geometry: Geometry) -> bool:
        """Whether it is faster than those that are asked after it, where it fits."""

    @property
    def work(self) -> int:
        """How much there is to do, in elements of an elementwise kernel."""
        return self.geometry.flops // FLOPS_PER_ELEMENT

    def __repr__(self) -> str:
        return f"<{self.name}, {self.product.value} of {self.geometry} in {self.dtype}>"


class Correlation(Algorithm):
    """A forward pass or an input gradient.

    Attributes
    ----------
    packed : int
        Elements of the packed weights, as many in either dtype; their order does not depend on the number of images.
    sums_shape : tuple of int
        Shape of the sums of moments that it writes where it is given `sums`, in float64.
    """

    packed: int
    sums_shape: tuple[int, int, int, int] = (0, 0, 0, 0)

    @abstractmethod
    def pack(self, weight: Array, bias: Array | None, packed: Array, scale: Array | None = None) -> Call:
        """Return the call that overwrites packed (`packed`,) with the weights in the order of the kernel, and the bias.

        A scale (K,), in float64, multiplies the weights of each output channel, but not the bias.
        """

    @abstractmethod
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
        """Return the call that overwrites the target; what follows the convolution is as in `conv2d.convolution`."""

    def expect_plain(self, normalization: Array | None, sums: Array | None) -> None:
        """Raise ValueError for what only an algorithm that `normalizes` can do."""
        if normalization is not None or sums is not None:
            raise ValueError(f"normalization, sums: expected none for {self!r}, which does not normalize")


class WeightGradient(Algorithm):
    """A weight gradient."""

    @abstractmethod
    def bind(self, dy: Array, x: Array, scratch: Array, dweight: Array, normalization: Array | None = None) -> Call:
        """Return the call that overwrites dweight."""

    def expect_plain(self, normalization: Array | None) -> None:
        """Raise ValueError for what only an algorithm that `normalizes` can do."""
        if normalization is not None:
            raise ValueError(f"normalization: expected none for {self!r}, which does not normalize")


def or_nothing(array: Array | None, dtype: np.dtype, ndim: int) -> Array:
    """Return the array, or what stands for it in a kernel's call where it is None: of as many axes, see `nothing`."""
    return nothing(dtype, ndim) if array is None else array
