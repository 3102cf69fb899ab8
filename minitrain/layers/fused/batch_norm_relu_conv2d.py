"""Batch normalization and ReLU on the way into a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minitrain.kernels import conv2d
from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, array
from minitrain.layers._normalization import as_3d
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.fused._moments import (
    bind_moments,
    expect_moments,
    norm_forward_statistics,
    with_moments,
    write_moments,
)
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from nbnorm.kernels import batch_norm


@dataclass(frozen=True)
class BatchNormReLUConv2d(Layer):
    """A BatchNormReLU and the only convolution that reads it, whose input is never kept.

    The forward pass finds the statistics of x, and the convolution normalizes what it packs. So does its weight
    gradient; what the convolution sends back becomes the gradient of x in its place. Where the convolution's kernels
    do not normalize (`Conv2dGeometry.normalizes`), the normalized x is made anew in either pass.

    Parameters
    ----------
    norm : BatchNormReLU
    conv : Conv2d
    takes_moments : bool
        Whether there is one more input: the mean and biased variance of each channel of x, (2, C), a side output.
    gives_moments : bool
        Whether those of the output are a side output.
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
        Example((4, 16, 9, 8), (2, 16), norm=BatchNormReLU(), conv=Conv2d(5, 3, padding=1), takes_moments=True),
        Example(
            (4, 17, 16, 16), (2, 17), norm=BatchNormReLU(momentum=None), conv=Conv2d(16, 3, padding=1),
            takes_moments=True, gives_moments=True,
        ),
    ]  # fmt: skip

    def declare(self, *shapes: Shape) -> Declaration:
        inputs = shapes[:-1] if self.takes_moments else shapes
        conv, norm = self.conv.declare(*inputs), self.norm.declare(*inputs)
        if self.takes_moments:
            expect_moments(self, shapes[-1], shapes[0])
        if self.gives_moments:
            conv = with_moments(conv, self.conv.geometry(shapes[0]))
        return Declaration(
            outputs=conv.outputs,
            params={**norm.params, **conv.params},
            side_outputs=conv.side_outputs,
            side_inputs=("x1",) if self.takes_moments else (),
            state=norm.state,
            saved={**norm.saved, "normalization": array(conv2d.normalization_shape(shapes[0][1]))},
            scratch={**conv.scratch, "normalized": array(shapes[0])},
            backward_scratch={**conv.backward_scratch, "normalized_again": array(shapes[0])},
            backward_reads=("x0",),
        )

    def flops(self, *shapes: Shape) -> int:
        return self.conv.flops(shapes[0])

    def prepare(self, t: Tensors) -> None:
        t.x, t.dx = t.xs[0], t.dxs[0]
        t.geometry = self.conv.geometry(t.x.shape)
        t.normalizes = t.geometry.normalizes and t.x.dtype == np.float32
        if not self.conv.bias:
            t.bias = t.dbias = np.empty(0, t.x.dtype)
        t.x3, t.absent, t.sums = as_3d(t.x), np.empty((0, 0, 0), t.x.dtype), None
        if hasattr(t, "moments"):
            bind_moments(t)

    def forward(self, t: Tensors) -> None:
        if self.takes_moments:
            norm_forward_statistics(self.norm, t)
        else:
            batch_norm.statistics(
                t.x3, t.gamma, t.beta, t.running_mean, t.running_var, self.norm.momentum_of(t), self.norm.eps,
                t.mean, t.inv_std,
            )  # fmt: skip
        conv2d.write_normalization.serial(t.mean, t.inv_std, t.gamma, t.beta, t.normalization)
        if t.normalizes:
            source, normalization = t.x, t.normalization
        else:
            self._normalize(t, t.mean, self._var(t), t.normalized)
            source, normalization = t.normalized, None
        conv2d.forward(t.geometry, source, t.weight, t.bias, t.forward_scratch, t.y, normalization, t.sums)
        if self.gives_moments:
            write_moments(t)

    def infer(self, t: Tensors) -> None:
        self._normalize(t, t.running_mean, t.running_var, t.normalized)
        conv2d.forward(t.geometry, t.normalized, t.weight, t.bias, t.forward_scratch, t.y)

    def _var(self, t: Tensors) -> np.ndarray:
        return t.inv_std**-2.0 - self.norm.eps  # type: ignore[no-any-return]

    def _normalize(self, t: Tensors, mean: np.ndarray, var: np.ndarray, normalized: np.ndarray) -> None:
        batch_norm.infer(t.x3, t.absent, t.gamma, t.beta, mean, var, self.norm.eps, True, as_3d(normalized))

    def backward(self, t: Tensors) -> None:
        inner = t.normalized_again if t.dx is None else t.dx
        if t.normalizes:
            conv2d.backward_weight(t.geometry, t.dy, t.x, t.backward_scratch, t.dweight, t.dbias, t.normalization)
        else:
            self._normalize(t, t.mean, self._var(t), t.normalized_again)
            conv2d.backward_weight(t.geometry, t.dy, t.normalized_again, t.backward_scratch, t.dweight, t.dbias)
        conv2d.backward_input(t.geometry, t.dy, t.weight, t.backward_scratch, inner)
        batch_norm.backward(
            as_3d(inner), t.x3, t.absent, t.mean, t.inv_std, t.gamma, t.beta, True, False,
            t.absent if t.dx is None else as_3d(t.dx), t.dgamma, t.dbeta, t.absent,
        )  # fmt: skip
