"""Convolution by standardized weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from minitrain.initializers import Constant
from minitrain.kernels import conv2d
from minitrain.kernels.calls import Call, in_order
from minitrain.layer import Buffer, Declaration, Example, Shape, Spec, Tensors, array
from minitrain.layers._convolution import Convolution
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked
from nbnorm.kernels import rows


@dataclass(frozen=True)
class WeightStandardizedConv2d(Convolution):
    """`Conv2d` whose filters have mean 0 and variance 1: gain (w - mean) / sqrt(var + eps), before it computes.

    For nets with group norm and small batches: what batch norm does to the loss's landscape, without a batch. A norm
    has to follow; it takes away the scale of the filters.
    Qiao et al., "Micro-batch training with batch-channel normalization and weight standardization", 2019
    (arXiv:1903.10520).

    Parameters
    ----------
    out_channels, kernel_size, stride, padding, dilation, groups, bias, weight_init, bias_init
        As of `Conv2d`.
    gain : bool
        Whether to learn a factor for each filter.
    eps : float
        Added to the variance of a filter.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.WeightStandardizedConv2d(32, 3, padding=1)(Input((3, 28, 28))).shape
    (32, 28, 28)
    """

    gain: bool = False
    eps: float = 1e-6

    prefix: ClassVar[str] = "conv"
    examples: ClassVar[list[Example]] = [
        Example((2, 3, 6, 5), out_channels=4, kernel_size=3),
        Example((2, 3, 6, 5), out_channels=4, kernel_size=3, padding=1, bias=False, gain=True),
        Example((1, 4, 7, 8), out_channels=6, kernel_size=(3, 2), stride=(1, 2), padding=(2, 0), groups=2, eps=0.1),
        Example((5, 16, 8, 8), out_channels=17, kernel_size=3, padding=1, gain=True),
    ]

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, gain=expect_boolean("gain", self.gain), eps=expect_number("eps", self.eps, 0.0))

    def declare(self, *inputs: Spec) -> Declaration:
        declared = super().declare(*inputs)
        kernel = declared.params["weight"].shape
        if kernel[1] * kernel[2] * kernel[3] < 2:
            raise ValueError("WeightStandardizedConv2d: expected at least 2 weights in a filter, got 1")
        filters, like_weight = array((self.out_channels,), "float64"), array(kernel)
        params = dict(declared.params)
        if self.gain:
            params["gain"] = Buffer((self.out_channels,), fill=Constant(1.0))
        room = rows.backward_room(_view(kernel), self.out_channels, np.dtype(np.float32).itemsize, False)
        return replace(
            declared,
            params=params,
            saved={"standard_weight": like_weight, "mean": filters, "inv_std": filters},
            backward_scratch={
                **declared.backward_scratch,
                "dstandard_weight": like_weight,
                "room": array((room,), "float64"),
                "sums": array((2 * self.out_channels,)),
            },
        )

    def _parameters(self, t: Tensors) -> tuple[Array, Array, Array]:
        """Return gain, shift and floor as the kernels take them."""
        gain = t.gain if self.gain else np.ones(self.out_channels, t.y.dtype)
        return gain, np.zeros(self.out_channels, t.y.dtype), nothing(t.y.dtype)

    def _standardization(self, t: Tensors, mean: Array, inv_std: Array, target: Array) -> Call:
        """Return the call that writes the standardized weights and the filters' statistics."""
        view = _view(t.weight.shape)
        return partial(
            rows.forward, t.weight.reshape(view), nothing(t.y.dtype, 3), self._parameters(t), self.out_channels,
            self.eps, True, False, mean, inv_std, target.reshape(view),
        )  # fmt: skip

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = in_order(
            self._standardization(t, t.mean, t.inv_std, t.standard_weight),
            conv2d.forward(
                self.geometry(t.x.shape), t.x, t.standard_weight, self.bias_of(t), t.forward_scratch, t.y
            ),
        )  # fmt: skip

    def bind_infer(self, t: Tensors) -> None:
        geometry = self.geometry(t.x.shape)
        mean, inv_std = np.empty((2, self.out_channels))
        standard_weight = np.empty_like(t.weight)
        t.run_derive = in_order(
            self._standardization(t, mean, inv_std, standard_weight),
            conv2d.prepare_weight(geometry, standard_weight, self.bias_of(t), t.packed_weight),
        )
        t.run_infer = conv2d.convolution(geometry, t.x, t.packed_weight, None, None, False, t.forward_scratch, t.y)

    def bind_backward(self, t: Tensors) -> None:
        geometry, scratch = self.geometry(t.x.shape), t.backward_scratch
        dgain = t.dgain if self.gain else None
        learns = t.dweight is not None or dgain is not None
        t.run_backward = in_order(
            conv2d.weight_gradient(
                geometry, t.dy, t.x, scratch, t.dstandard_weight if learns else None, self.dbias_of(t)
            ),
            self._gradients_of_weight(t, dgain) if learns else None,
            None
            if t.dx is None
            else conv2d.input_gradient(geometry, t.dy, t.standard_weight, scratch, t.dx, t.dx_before),
        )  # fmt: skip

    def _gradients_of_weight(self, t: Tensors, dgain: Array | None) -> Call:
        """Return the call that goes from the gradient of the standardized weights to that of the weights."""
        view, none = _view(t.weight.shape), nothing(t.y.dtype, 3)
        sums = t.sums.reshape(2, -1)
        gradients = (
            none if t.dweight is None else t.dweight.reshape(view), sums[0] if dgain is None else dgain, sums[1],
            nothing(t.y.dtype), none,
        )  # fmt: skip
        return partial(
            rows.backward, t.dstandard_weight.reshape(view), t.weight.reshape(view), none, (t.mean, t.inv_std),
            self._parameters(t), self.out_channels, True, False, False, t.room, gradients,
        )  # fmt: skip

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def derive(self, t: Tensors) -> None:
        t.run_derive()

    def infer(self, t: Tensors) -> None:
        t.run_infer()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _view(weight: Shape) -> tuple[int, int, int]:
    """The filters as the kernels of rows take them."""
    return weight[0], 1, weight[1] * weight[2] * weight[3]
