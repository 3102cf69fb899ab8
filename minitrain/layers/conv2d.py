"""Two-dimensional convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Example, Tensors
from minitrain.layers._convolution import Convolution
from nbnorm.jit.arrays import Array


@dataclass(frozen=True)
class Conv2d(Convolution):
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
