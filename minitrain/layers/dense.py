"""Fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from minitrain.initializers import Constant, He, Initializer
from minitrain.kernels import dense
from minitrain.kernels.dense.tiles import SCRATCH
from minitrain.layer import (
    Buffer,
    Declaration,
    Example,
    Layer,
    Shape,
    Spec,
    Tensors,
    array,
    describe,
    only_input,
    weight,
)
from minitrain.layers._arguments import initializer
from nbnorm.jit.checks import expect_boolean, expect_integer, set_checked


@dataclass(frozen=True)
class Dense(Layer):
    """y = x weight.T + bias for x (N, in) and weights (out_features, in).

    Parameters
    ----------
    out_features : int
    bias : bool
        Whether to add a learned number to each output. Superfluous before a batch norm.
    weight_init, bias_init : Initializer

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.Dense(10)(Input((64,))).shape
    (10,)
    """

    out_features: int
    bias: bool = True
    weight_init: Initializer = field(default_factory=He)
    bias_init: Initializer = field(default_factory=Constant)

    prefix: ClassVar[str] = "dense"
    examples: ClassVar[list[Example]] = [
        Example((4, 3), out_features=5),
        Example((7, 6), out_features=2, bias=False),
        Example((1, 1), out_features=1),
        Example((33, 20), out_features=17),
        Example((33, 70), out_features=17),
        Example((4, 70), out_features=9),
    ]

    def __post_init__(self) -> None:
        set_checked(self, out_features=expect_integer("out_features", self.out_features))
        set_checked(self, bias=expect_boolean("bias", self.bias))
        initializer("weight_init", self.weight_init)
        initializer("bias_init", self.bias_init)

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs)
        if len(x) != 2:
            raise ValueError(
                f"Dense: expected an input of shape (N, features), got {describe(x)}; put Flatten() or GlobalAvgPool() "
                "in front"
            )
        params = {"weight": weight((self.out_features, x[1]), x[1], self.out_features, self.weight_init)}
        if self.bias:
            params["bias"] = Buffer((self.out_features,), None, self.bias_init, x[1], self.out_features)
        return Declaration(
            outputs={"y": Spec((x[0], self.out_features))},
            params=params,
            scratch={"sums": array((SCRATCH,))},
            backward_reads=("x",),
        )

    def flops(self, *shapes: Shape) -> int:
        return 2 * shapes[0][0] * shapes[0][1] * self.out_features

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = dense.forward(t.x, t.weight, t.bias if self.bias else None, t.sums, t.y)

    def bind_backward(self, t: Tensors) -> None:
        t.run_backward = dense.backward(t.dy, t.x, t.weight, t.dweight, t.dbias if self.bias else None, t.dx)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()
