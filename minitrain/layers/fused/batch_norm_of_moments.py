"""Batch normalization by statistics that the layer before has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.kernels.calls import in_order
from minitrain.layer import Declaration, Example, Layer, Spec, Tensors
from minitrain.layers._normalization import Normalization
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.fused._moments import bind_statistics, expect_moments, moments_of, moments_spec
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU


@dataclass(frozen=True)
class BatchNormOfMoments(Layer):
    """A BatchNorm, BatchNormReLU or BatchNormAddReLU with one more input: the moments of x, (2, C).

    The forward pass reads x once instead of twice.

    Parameters
    ----------
    norm : BatchNorm, BatchNormReLU or BatchNormAddReLU
    """

    norm: Normalization

    prefix: ClassVar[str] = "bn"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5), moments_spec(3), computed={"x1": moments_of}, norm=BatchNorm()),
        Example((3, 40, 9, 17), moments_spec(40), computed={"x1": moments_of}, norm=BatchNormReLU(momentum=None)),
        Example((8, 4), moments_spec(4), computed={"x1": moments_of}, norm=BatchNormReLU(affine=False, debias=True)),
        Example((8, 4), (8, 4), moments_spec(4), computed={"x2": moments_of}, norm=BatchNormAddReLU(eps=0.1)),
        Example((4, 3, 5, 5), (4, 3, 5, 5), moments_spec(3), computed={"x2": moments_of}, norm=BatchNormAddReLU()),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        *inputs_of_norm, moments = inputs
        declared = self.norm.declare(*inputs_of_norm)
        expect_moments(self, moments, inputs[0].shape)
        return declared

    def bind_forward(self, t: Tensors) -> None:
        self.norm.expect_statistics(t)
        mean, var = t.xs[-1]
        t.run_forward = in_order(
            bind_statistics(self.norm, t),
            self.norm.bound_to(t, mean, var),
        )

    def bind_infer(self, t: Tensors) -> None:
        self.norm.bind_infer(t)

    def bind_backward(self, t: Tensors) -> None:
        self.norm.bind_backward(t)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def infer(self, t: Tensors) -> None:
        self.norm.infer(t)

    def backward(self, t: Tensors) -> None:
        self.norm.backward(t)
