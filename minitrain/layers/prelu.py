"""Rectified linear unit whose slope below zero is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from minitrain.initializers import Constant, Initializer
from minitrain.kernels import elementwise
from minitrain.layer import Buffer, Declaration, Example, Layer, Spec, Tensors, array, describe, only_input
from minitrain.layers._arguments import initializer
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import expect_integer, set_checked


@dataclass(frozen=True)
class PReLU(Layer):
    """y = x where x > 0, weight x elsewhere, for x of shape (N, C, ...). Penalties do not reach the weight.

    He et al., "Delving deep into rectifiers", 2015 (arXiv:1502.01852).

    Parameters
    ----------
    num_parameters : int or "channel"
        1: one slope for all; "channel" or the number of channels: one for each.
    weight_init : Initializer

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.PReLU("channel")(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    num_parameters: int | Literal["channel"] = 1
    weight_init: Initializer = field(default_factory=partial(Constant, 0.25))

    prefix: ClassVar[str] = "prelu"
    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5)),
        Example((4, 3, 5, 5), num_parameters="channel"),
        Example((8, 7), num_parameters=7),
        Example((5, 1)),
        Example((3, 40, 9, 17), num_parameters="channel"),
    ]

    def __post_init__(self) -> None:
        if self.num_parameters != "channel":
            set_checked(self, num_parameters=expect_integer("num_parameters", self.num_parameters))
        initializer("weight_init", self.weight_init)

    def declare(self, *inputs: Spec) -> Declaration:
        x = only_input(self, inputs)
        if len(x) < 2:
            raise ValueError(f"PReLU: expected an input of shape (N, C, ...), got {describe(x)}")
        slopes = x[1] if self.num_parameters == "channel" else self.num_parameters
        if slopes not in (1, x[1]):
            raise ValueError(f"num_parameters: expected 1 or the {x[1]} channels of {describe(x)}, got {slopes}")
        return Declaration(
            outputs={"y": Spec(x)},
            params={"weight": Buffer((slopes,), fill=self.weight_init)},
            backward_scratch={"partial": array((x[0], slopes), "float64")},
            backward_reads=("x",),
        )

    def bind_forward(self, t: Tensors) -> None:
        t.run_forward = partial(elementwise.prelu.for_work(t.x.size), _view(t.x, t), t.weight, _view(t.y, t))

    def bind_backward(self, t: Tensors) -> None:
        run = elementwise.prelu_backward.for_work(t.x.size)
        dx = nothing(t.x.dtype, 3) if t.dx is None else _view(t.dx, t)
        dweight = nothing(t.x.dtype) if t.dweight is None else t.dweight
        t.run_backward = partial(run, _view(t.dy, t), _view(t.x, t), t.weight, t.partial, dx, dweight)

    def forward(self, t: Tensors) -> None:
        t.run_forward()

    def backward(self, t: Tensors) -> None:
        t.run_backward()


def _view(a: np.ndarray, t: Tensors) -> np.ndarray:
    """View (N, C, *spatial) as (N, slopes, values of a slope)."""
    slopes = len(t.weight)
    return a.reshape(a.shape[0], slopes, math.prod(a.shape[1:]) // slopes)
