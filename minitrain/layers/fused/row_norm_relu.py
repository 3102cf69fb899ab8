"""A norm of a sample's own statistics and ReLU in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Declaration, Example, Layer, Spec, Tensors
from minitrain.layers._row_norm import RowNorm
from minitrain.layers.group_norm import GroupNorm
from minitrain.layers.instance_norm import InstanceNorm
from minitrain.layers.layer_norm import LayerNorm
from minitrain.layers.rms_norm import RMSNorm


@dataclass(frozen=True)
class RowNormReLU(Layer):
    """ReLU of a norm, with the parameters of the norm. Backward finds the mask from x.

    Parameters
    ----------
    norm : LayerNorm, RMSNorm, GroupNorm or InstanceNorm
    """

    norm: RowNorm

    prefix: ClassVar[str] = "norm"
    examples: ClassVar[list[Example]] = [
        Example((3, 6, 5, 5), norm=GroupNorm(3)),
        Example((2, 40, 9, 17), norm=GroupNorm(8, affine=False)),
        Example((2, 3, 4, 5), norm=InstanceNorm(affine=True)),
        Example((4, 70), norm=LayerNorm()),
        Example((2, 5, 3, 4), norm=LayerNorm(axes=(1,), bias=False)),
        Example((3, 5, 33), norm=RMSNorm()),
    ]

    def declare(self, *inputs: Spec) -> Declaration:
        return self.norm.declare(*inputs)

    def flops(self, *shapes: tuple[int, ...]) -> int:
        return self.norm.flops(*shapes)

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = self.norm.bound_forward(t, relu=True)

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = self.norm.bound_backward(t, relu=True)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
