"""What the pooling layers share: arguments, shapes, and the view of their kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minitrain.layer import Layer, Shape, Spec, only_input
from nbnorm.jit.checks import expect_pair, set_checked

Geometry = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Pool2d(Layer):
    """Base of MaxPool2d and AvgPool2d: windows of `kernel_size`, `stride` apart, over x with `padding` on each side."""

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0

    prefix: ClassVar[str] = "pool"

    def __post_init__(self) -> None:
        kernel = expect_pair("kernel_size", self.kernel_size)
        stride = kernel if self.stride is None else expect_pair("stride", self.stride)
        padding = expect_pair("padding", self.padding, 0)
        if any(2 * width > size for width, size in zip(padding, kernel, strict=True)):
            raise ValueError(f"padding: expected at most half of kernel_size {kernel}, got {padding}")
        set_checked(self, kernel_size=kernel, stride=stride, padding=padding)

    @property
    def geometry(self) -> Geometry:
        """The arguments as the kernels take them."""
        return (*expect_pair("", self.kernel_size), *expect_pair("", self.stride), *expect_pair("", self.padding, 0))

    def output_shape(self, inputs: tuple[Spec, ...]) -> Shape:
        """Shape of y for the inputs; ValueError where the window is larger than the padded input."""
        x = only_input(self, inputs, 4, "(N, C, H, W)")
        kh, kw, sh, sw, ph, pw = self.geometry
        if x[2] + 2 * ph < kh or x[3] + 2 * pw < kw:
            raise ValueError(
                f"{type(self).__name__}: kernel_size {(kh, kw)} is larger than the padded input, "
                f"{x[2] + 2 * ph} x {x[3] + 2 * pw}"
            )
        return x[0], x[1], (x[2] + 2 * ph - kh) // sh + 1, (x[3] + 2 * pw - kw) // sw + 1


def as_planes(a: np.ndarray) -> np.ndarray:
    """View (N, C, H, W) as (N * C, H, W)."""
    return a.reshape(-1, *a.shape[2:])
