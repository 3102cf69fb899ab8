"""Batch normalization and ReLU on the way into a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Declaration, Example, Layer, Shape, Spec, Tensors, array
from minitrain.layers._arrays import as_3d
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused._moments import (
    bind_moments,
    bind_statistics,
    expect_moments,
    moments_in_a_pass,
    moments_of,
    moments_spec,
    with_moments,
)
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from nbnorm.jit.arrays import Array, nothing
from nbnorm.kernels import batch_norm


@dataclass(frozen=True)
class BatchNormReLUConv2d(Layer):
    """A BatchNormReLU and the only convolution that reads it, whose input is never kept.

    The forward pass finds the statistics of x, and the convolution normalizes what it packs. So does its weight
    gradient; what the convolution sends back becomes the gradient of x in its place. Where the convolution's kernels
    do not normalize (`Algorithm.normalizes`), the normalized x is made anew in either pass.

    Parameters
    ----------
    norm : BatchNormReLU
    conv : Conv2d
    takes_moments : bool
        Whether there is one more input: the mean and biased variance of each channel of x, (2, C).
    gives_moments : bool
        Whether those of the output are an output, `moments`.
    """

    norm: BatchNormReLU
    conv: Conv2d
    takes_moments: bool = False
    gives_moments: bool = False

    prefix: ClassVar[str] = "bn_conv"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), norm=BatchNormReLU(), conv=Conv2d(4, 3, padding=1, bias=False)),
        Example((4, 16, 16, 17), norm=BatchNormReLU(momentum=None), conv=Conv2d(16, 3, padding=1)),
        Example((2, 4, 7, 6), norm=BatchNormReLU(eps=0.1), conv=Conv2d(6, 3, stride=2, groups=2), gives_moments=True),
        Example((4, 16, 16, 17), norm=BatchNormReLU(), conv=Conv2d(17, 3), gives_moments=True),
        Example((4, 16, 9, 8), norm=BatchNormReLU(affine=False, debias=True), conv=Conv2d(5, 3)),
        Example((2, 3, 6, 5), norm=BatchNormReLU(bias=False), conv=Conv2d(4, 3)),
        Example(
            (4, 16, 9, 8), moments_spec(16), computed={"x1": moments_of}, norm=BatchNormReLU(),
            conv=Conv2d(5, 3, padding=1), takes_moments=True,
        ),
        Example(
            (4, 17, 16, 16), moments_spec(17), computed={"x1": moments_of}, norm=BatchNormReLU(momentum=None),
            conv=Conv2d(16, 3, padding=1), takes_moments=True, gives_moments=True,
        ),
    ]  # fmt: skip

    def declare(self, *inputs: Spec) -> Declaration:
        x = inputs[0].shape
        whole = inputs[:-1] if self.takes_moments else inputs
        conv, norm, geometry = self.conv.declare(*whole), self.norm.declare(*whole), self.conv.geometry(x)
        if self.takes_moments:
            expect_moments(self, inputs[-1], x)
        if self.gives_moments:
            conv = with_moments(conv, geometry)
        backward_scratch = conv.backward_scratch["backward_scratch"].shape[0]
        if _normalizes(geometry, np.dtype(np.float32)):
            gradient = conv2d.scratch_size(geometry, conv2d.Product.WEIGHT_GRADIENT, normalizing=True)
            backward_scratch = max(backward_scratch, gradient)
        return Declaration(
            outputs=conv.outputs,
            params={**norm.params, **conv.params},
            state=norm.state,
            saved={**norm.saved, "normalization": array(conv2d.normalization_shape(x[1]))},
            scratch={**conv.scratch, "normalized": array(x)},
            backward_scratch={"backward_scratch": array((backward_scratch,)), "normalized_again": array(x)},
            backward_reads=("x0",),
        )

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(shapes[0])

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        geometry = self.conv.geometry(shapes[0])
        return conv2d.names_of_algorithms(geometry, dtype, normalizing=_normalizes(geometry, dtype))

    def bind_forward(self, t: Tensors) -> None:
        self.norm.expect_statistics(t)
        x, geometry = t.xs[0], self.conv.geometry(t.xs[0].shape)
        sums, find_moments = bind_moments(t, geometry) if self.gives_moments else (None, None)
        if _normalizes(geometry, x.dtype):
            normalize = None
            convolve = self._convolution(t, x, sums, t.normalization)
        else:
            normalize = self._normalization_of_batch(t, t.normalized)
            convolve = self._convolution(t, t.normalized, sums)
        t.run_forward = in_order(
            bind_statistics(self.norm, t) if self.takes_moments else self._statistics(t),
            partial(conv2d.write_normalization.serial, t.mean, t.inv_std, *self.norm.affine_of(t), t.normalization),
            normalize,
            convolve,
            find_moments,
        )

    def bind_infer(self, t: Tensors) -> None:
        normalize = partial(
            batch_norm.infer, as_3d(t.xs[0]), nothing(t.y.dtype, 3), *self.norm.affine_of(t), t.running_mean,
            t.running_var, self.norm.eps, True, as_3d(t.normalized),
        )  # fmt: skip
        find_moments = moments_in_a_pass(t) if self.gives_moments else None
        t.run_infer = in_order(normalize, self._convolution(t, t.normalized), find_moments)

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = in_order(self._gradients_of_convolution(t), self._gradients_of_norm(t))

    def _gradients_of_convolution(self, t: Tensors) -> Call:
        """Return the call that writes the gradients of its weight and bias, those that are wanted."""
        x, geometry, scratch = t.xs[0], self.conv.geometry(t.xs[0].shape), t.backward_scratch
        dbias = self.conv.dbias_of(t)
        if _normalizes(geometry, x.dtype):
            return conv2d.weight_gradient(geometry, t.dy, x, scratch, t.dweight, dbias, t.normalization)
        return in_order(
            None if t.dweight is None else self._normalization_of_batch(t, t.normalized_again),
            conv2d.weight_gradient(geometry, t.dy, t.normalized_again, scratch, t.dweight, dbias),
        )

    def _gradients_of_norm(self, t: Tensors) -> Call | None:
        """Return the call that writes the gradients of gamma, beta and x; None where nobody wants any of them."""
        x, geometry, dx, absent = t.xs[0], self.conv.geometry(t.xs[0].shape), t.dxs[0], nothing(t.y.dtype, 3)
        if dx is None and all(each is None for each in self.norm.gradients_of(t)):
            return None
        inner = t.normalized_again if dx is None else dx
        dgamma, dbeta = self.norm.bind_sums(t)
        return in_order(
            conv2d.input_gradient(geometry, t.dy, t.weight, t.backward_scratch, inner),
            partial(
                batch_norm.backward, as_3d(inner), as_3d(x), absent, t.mean, t.inv_std, *self.norm.affine_of(t), True,
                False, absent if dx is None else as_3d(dx), dgamma, dbeta, absent,
            ),
        )  # fmt: skip

    def _statistics(self, t: Tensors) -> Call:
        x, momentum, eps = as_3d(t.xs[0]), self.norm.bind_momentum(t), self.norm.eps
        gamma, beta = self.norm.affine_of(t)

        def run() -> None:
            batch_norm.statistics(
                x, gamma, beta, t.running_mean, t.running_var, momentum(), eps, t.mean, t.inv_std
            )  # fmt: skip

        return run

    def _normalization_of_batch(self, t: Tensors, normalized: Array) -> Call:
        """Return the call that normalizes x by its own statistics."""
        x, absent, y, eps = as_3d(t.xs[0]), nothing(t.y.dtype, 3), as_3d(normalized), self.norm.eps
        gamma, beta = self.norm.affine_of(t)

        def run() -> None:
            batch_norm.infer(x, absent, gamma, beta, t.mean, t.inv_std**-2.0 - eps, eps, True, y)

        return run

    def _convolution(self, t: Tensors, x: Array, sums: Array | None = None, normalization: Array | None = None) -> Call:
        geometry, bias = self.conv.geometry(x.shape), self.conv.bias_of(t)
        return conv2d.forward(
            geometry, x, t.weight, bias, t.forward_scratch, t.y, normalization=normalization, sums=sums
        )  # fmt: skip

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _normalizes(geometry: conv2d.Geometry, dtype: np.dtype) -> bool:
    """Whether the kernels of the convolution normalize x on the way."""
    return conv2d.normalizes(geometry, conv2d.Product.FORWARD, dtype=dtype)
