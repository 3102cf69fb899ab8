"""What two-dimensional convolutions share: arguments, shapes, arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from minitrain.initializers import Constant, He, Initializer
from minitrain.kernels import conv2d
from minitrain.layer import Buffer, Declaration, Layer, Shape, Spec, Tensors, array, only_input, weight
from minitrain.layers._arguments import initializer
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_pair, set_checked


@dataclass(frozen=True)
class Convolution(Layer):
    """Base of these layers; the arguments are those of `Conv2d`."""

    out_channels: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | Literal["same"] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True
    weight_init: Initializer = field(default_factory=He)
    bias_init: Initializer = field(default_factory=Constant)

    def __post_init__(self) -> None:
        set_checked(
            self,
            out_channels=expect_integer("out_channels", self.out_channels),
            kernel_size=expect_pair("kernel_size", self.kernel_size),
            stride=expect_pair("stride", self.stride),
            dilation=expect_pair("dilation", self.dilation),
            groups=expect_integer("groups", self.groups),
        )
        if self.out_channels % self.groups:
            raise ValueError(f"groups: expected a divisor of out_channels = {self.out_channels}, got {self.groups}")
        if isinstance(self.padding, str):
            self._same_padding()
        else:
            set_checked(self, padding=expect_pair("padding", self.padding, 0))
        set_checked(self, bias=expect_boolean("bias", self.bias))
        initializer("weight_init", self.weight_init)
        initializer("bias_init", self.bias_init)

    def _same_padding(self) -> tuple[int, int]:
        """Padding that keeps height and width; it is equal on both sides, so the kernel's reach must be odd."""
        if self.padding != "same":
            raise ValueError(f"padding: expected integers or 'same', got {self.padding!r}")
        if self.stride != (1, 1):
            raise ValueError(f"padding: 'same' needs a stride of 1, got {self.stride}")
        kernel, dilation = expect_pair("", self.kernel_size), expect_pair("", self.dilation)
        total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        if any(each % 2 for each in total):
            raise ValueError(f"padding: 'same' needs an odd kernel_size, got {self.kernel_size}")
        return total[0] // 2, total[1] // 2

    def geometry(self, x: Shape) -> conv2d.Geometry:
        """Return the shapes of this convolution of x (N, C, H, W), as the kernels take them."""
        return conv2d.Geometry(
            (x[0], x[1], x[2], x[3]),
            self.out_channels,
            kernel=expect_pair("", self.kernel_size),
            stride=expect_pair("", self.stride),
            padding=self._same_padding() if self.padding == "same" else expect_pair("", self.padding, 0),
            dilation=expect_pair("", self.dilation),
            groups=self.groups,
        )

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs, 4, "(N, C, H, W)")
        if x[1] % self.groups:
            raise ValueError(f"groups: expected a divisor of the {x[1]} input channels, got {self.groups}")
        geometry = self.geometry(x)
        if min(geometry.output_shape[2:]) < 1:
            raise ValueError(
                f"{type(self).__name__}: kernel_size {geometry.kernel} with dilation {geometry.dilation} and padding "
                f"{geometry.padding} does not fit into the input, {x[2]} x {x[3]}"
            )
        area = geometry.kernel[0] * geometry.kernel[1]
        fan_in, fan_out = geometry.weight_shape[1] * area, self.out_channels // self.groups * area
        params = {"weight": weight(geometry.weight_shape, fan_in, fan_out, self.weight_init)}
        if self.bias:
            params["bias"] = Buffer((self.out_channels,), None, self.bias_init, fan_in, fan_out)
        scratch = {product: conv2d.scratch_size(geometry, product) for product in conv2d.Product}
        forward_scratch = scratch.pop(conv2d.Product.FORWARD)
        return Declaration(
            outputs={"y": Spec(geometry.output_shape)},
            params=params,
            scratch={"forward_scratch": array((forward_scratch,))},
            derived={"packed_weight": array((conv2d.packed_size(geometry),))},
            backward_scratch={"backward_scratch": array((max(scratch.values()),))},
            backward_reads=("x",),
            adds_gradient=True,
        )

    def flops(self, *shapes: Shape) -> int:
        return self.geometry(shapes[0]).flops

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        return conv2d.names_of_algorithms(self.geometry(shapes[0]), dtype)

    def bias_of(self, t: Tensors) -> Array | None:
        """The bias, or None."""
        return t.bias if self.bias else None

    def dbias_of(self, t: Tensors) -> Array | None:
        """The gradient of the bias, or None where there is none or nobody wants it."""
        return t.dbias if self.bias else None
