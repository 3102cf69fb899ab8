"""A convolution and its ReLU in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.kernels.conv2d import epilogue
from minitrain.layer import Declaration, Example, Layer, Shape, Spec, Tensors, array
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused._moments import bind_moments, with_moments
from nbnorm.jit.arrays import Array, nothing


@dataclass(frozen=True)
class Conv2dReLU(Layer):
    """A Conv2d and the ReLU that alone reads it.

    ReLU is applied while the convolution's output is in the cache. The gradient before it, and that gradient's sum,
    which is the bias's, are one pass.

    Parameters
    ----------
    conv : Conv2d
    gives_moments : bool
        Whether the mean and biased variance of each output channel, (2, out_channels), are an output.
    """

    conv: Conv2d
    gives_moments: bool = False

    prefix: ClassVar[str] = "conv"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), conv=Conv2d(4, 3)),
        Example((2, 3, 6, 5), conv=Conv2d(4, 3, padding=1, bias=False)),
        Example((1, 4, 7, 8), conv=Conv2d(6, (3, 2), (1, 2), (2, 0), groups=2)),
        Example((5, 16, 8, 8), conv=Conv2d(17, 3, padding=1)),
        Example((3, 5, 4, 4), conv=Conv2d(2, 1)),
        Example((4, 16, 16, 17), conv=Conv2d(17, 3), gives_moments=True),
        Example((3, 5, 4, 4), conv=Conv2d(2, 1), gives_moments=True),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        inner = self.conv.declare(*inputs)
        if self.gives_moments:
            inner = with_moments(inner, self.conv.geometry(inputs[0].shape))
        y = inner.outputs["y"].shape
        return Declaration(
            outputs=inner.outputs,
            params=inner.params,
            scratch=inner.scratch,
            backward_scratch={**inner.backward_scratch, "dz": array(y), "partial": array(y[:2], "float64")},
            backward_reads=("x", "y"),
            adds_gradient=True,
        )

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(*shapes)

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        return self.conv.algorithms(*shapes, dtype=dtype)

    def bind_forward(self, t: Tensors) -> None:
        sums, find_moments = bind_moments(t, self.conv.geometry(t.x.shape)) if self.gives_moments else (None, None)
        t.run_forward = in_order(self._convolution(t, sums), find_moments)

    def bind_infer(self, t: Tensors) -> None:
        t.run_infer = self._convolution(t, None)

    def _convolution(self, t: Tensors, sums: Array | None) -> Call:
        geometry, bias = self.conv.geometry(t.x.shape), self.conv.bias_of(t)
        return conv2d.forward(geometry, t.x, t.weight, bias, t.forward_scratch, t.y, sums=sums, relu=True)

    def bind_backward(self, t: Tensors) -> None:
        dbias = self.conv.dbias_of(t)
        summed_into = nothing(t.y.dtype) if dbias is None else dbias
        t.run_backward = in_order(
            partial(epilogue.backward_of_relu.for_work(t.dy.size), t.dy, t.y, t.partial, t.dz, summed_into),
            self.conv.bound_gradients(t, t.dz, None),
        )

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
