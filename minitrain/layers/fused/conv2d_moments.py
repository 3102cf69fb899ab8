"""A convolution that also finds the statistics that the batch norm after it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import in_order
from minitrain.layer import Declaration, Example, Layer, Shape, Spec, Tensors
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused._moments import bind_moments, moments_in_a_pass, with_moments


@dataclass(frozen=True)
class Conv2dMoments(Layer):
    """A Conv2d with the mean and the biased variance of each output channel, (2, out_channels), as an output.

    Where Winograd's convolution is used they are found while the outputs are in registers and the nearest cache, else
    in a pass over the output.

    Parameters
    ----------
    conv : Conv2d
    """

    conv: Conv2d

    prefix: ClassVar[str] = "conv"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, padding=1)),
        Example((4, 16, 16, 17), conv=Conv2d(16, 3, padding=1)),
        Example((2, 4, 7, 6), conv=Conv2d(6, 3, stride=2, groups=2, bias=False)),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        return with_moments(self.conv.declare(*inputs), self.conv.geometry(inputs[0].shape))

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(*shapes)

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        return self.conv.algorithms(*shapes, dtype=dtype)

    def bind_forward(self, t: Tensors) -> None:
        geometry = self.conv.geometry(t.x.shape)
        sums, find_moments = bind_moments(t, geometry)
        t.run_forward = in_order(
            conv2d.forward(geometry, t.x, t.weight, self.conv.bias_of(t), t.forward_scratch, t.y, sums=sums),
            find_moments,
        )

    def bind_backward(self, t: Tensors) -> None:
        self.conv.bind_backward(t)

    def bind_infer(self, t: Tensors) -> None:
        self.conv.bind_infer(t)
        t.find_moments = moments_in_a_pass(t)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def derive(self, t: Tensors) -> None:
        self.conv.derive(t)

    def infer(self, t: Tensors) -> None:
        self.conv.infer(t)
        t.find_moments()

    def backward(self, t: Tensors) -> None:
        self.conv.backward(t)
