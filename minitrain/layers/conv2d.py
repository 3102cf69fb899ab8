"""Two-dimensional convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from minitrain.initializers import Constant, He, Initializer
from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Buffer, Declaration, Example, Layer, Shape, Spec, Tensors, array, only_input, weight
from minitrain.layers._arguments import initializer
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_pair, set_checked


@dataclass(frozen=True)
class Conv2d(Layer):
    """Cross-correlation of x (N, C, H, W) with weights (out_channels, C / groups, kh, kw), plus a bias.

    Parameters
    ----------
    out_channels : int
    kernel_size, stride, padding, dilation : int or (int, int)
        Rows and columns. `padding` is of zeros, on each side; "same" keeps height and width (stride 1, odd kernel).
    groups : int
        Divides the input channels and `out_channels`; each group of outputs sees its group of inputs alone.
    bias : bool
        Whether to add a learned number to each output channel. Superfluous before a batch norm.
    weight_init, bias_init : Initializer

    Notes
    -----
    In float32, the output and both gradients of 3x3 kernels with stride 1, without dilation or groups, from about 16
    channels on, are computed with Winograd's F(4x4, 3x3) where that is faster. On random normal data the largest error
    is 1e-6 (16 channels) to 3.5e-6 (256) of the largest result, twice that of direct convolution. An infinity or
    a NaN in the input reaches all outputs of the 4x4 tiles that depend on it, mostly as NaN, instead of its 3x3
    neighbours alone. float64 is always computed directly.

    References
    ----------
    A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Conv2d(32, 3, stride=2, padding=1)(Input((3, 28, 28))).shape
    (32, 14, 14)
    """

    out_channels: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | Literal["same"] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True
    weight_init: Initializer = field(default_factory=He)
    bias_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "conv"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), out_channels=4, kernel_size=3),
        Example((2, 3, 6, 5), out_channels=4, kernel_size=3, padding=1, bias=False),
        Example((2, 2, 7, 6), out_channels=3, kernel_size=3, stride=2, padding=1),
        Example((1, 4, 7, 8), out_channels=6, kernel_size=(3, 2), stride=(1, 2), padding=(2, 0), groups=2),
        Example((2, 3, 8, 7), out_channels=3, kernel_size=3, padding="same", dilation=2, groups=3),
        Example((3, 5, 4, 4), out_channels=2, kernel_size=1),
        Example((1, 1, 1, 1), out_channels=1, kernel_size=1),
        Example((5, 16, 8, 8), out_channels=17, kernel_size=3, padding=1),
    ]

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
                f"Conv2d: kernel_size {geometry.kernel} with dilation {geometry.dilation} and padding "
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

    def bind_forward(self, t: Tensors) -> None:
        geometry = self.geometry(t.x.shape)
        t.run_forward = conv2d.forward(geometry, t.x, t.weight, self.bias_of(t), t.forward_scratch, t.y)

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = self.bound_gradients(t, t.dy, self.dbias_of(t))

    def bound_gradients(self, t: Tensors, dy: Array, dbias: Array | None) -> Call:
        """Return the call that writes the gradients from `dy`, that of the convolution itself."""
        geometry, scratch = self.geometry(t.x.shape), t.backward_scratch
        return in_order(
            conv2d.weight_gradient(geometry, dy, t.x, scratch, t.dweight, dbias),
            None if t.dx is None else conv2d.input_gradient(geometry, dy, t.weight, scratch, t.dx, t.dx_before),
        )

    def bind_infer(self, t: Tensors) -> None:
        geometry = self.geometry(t.x.shape)
        t.run_derive = conv2d.prepare_weight(geometry, t.weight, self.bias_of(t), t.packed_weight)
        t.run_infer = conv2d.convolution(geometry, t.x, t.packed_weight, None, None, False, t.forward_scratch, t.y)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def derive(self, t: Tensors) -> None:
        t.run_derive()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
