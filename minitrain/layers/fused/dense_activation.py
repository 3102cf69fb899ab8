"""A dense layer and its activation in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minitrain.kernels import dense, epilogue
from minitrain.layer import Declaration, Example, Layer, Shape, Tensors, array
from minitrain.layers._activation import Activation
from minitrain.layers.dense import Dense
from minitrain.layers.leaky_relu import LeakyReLU
from minitrain.layers.relu import ReLU
from minitrain.layers.sigmoid import Sigmoid
from minitrain.layers.tanh import Tanh

NUMBERS: dict[type[Layer], int] = {
    ReLU: epilogue.RELU,
    LeakyReLU: epilogue.LEAKY_RELU,
    Sigmoid: epilogue.SIGMOID,
    Tanh: epilogue.TANH,
}


def fits(activation: Layer) -> bool:
    """Whether this is an activation that a dense layer takes in: its gradient is computed from its value."""
    return type(activation) in NUMBERS and activation.backward_reads() == "y"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class DenseActivation(Layer):
    """A Dense and the ReLU, LeakyReLU, Sigmoid or Tanh that alone reads it.

    Bias and activation are one pass. So are the gradient before the activation and its sum, the bias's gradient.

    Parameters
    ----------
    dense : Dense
    activation : ReLU, LeakyReLU with a slope that is not negative, Sigmoid or Tanh
    """

    dense: Dense
    activation: Activation

    prefix: ClassVar[str] = "dense"
    examples: ClassVar[list[Example]] = [
        Example((4, 3), dense=Dense(5), activation=ReLU()),
        Example((33, 20), dense=Dense(70, bias=False), activation=LeakyReLU(0.25)),
        Example((7, 6), dense=Dense(2), activation=Sigmoid()),
        Example((2, 5), dense=Dense(19, bias=False), activation=Tanh()),
        Example((40, 100), dense=Dense(200), activation=ReLU()),
    ]

    def declare(self, *shapes: Shape) -> Declaration:
        inner = self.dense.declare(*shapes)
        return Declaration(
            outputs=inner.outputs,
            params=inner.params,
            scratch=inner.scratch,
            backward_scratch={"dz": array(inner.outputs["y"])},
            backward_reads=("x", "y"),
        )

    def flops(self, *shapes: Shape) -> int:
        return self.dense.flops(*shapes)

    def prepare(self, t: Tensors) -> None:
        t.none = np.empty(0, t.x.dtype)
        if not self.dense.bias:
            t.bias = t.dbias = t.none
        t.activation = NUMBERS[type(self.activation)]
        t.slope = self.activation.negative_slope if isinstance(self.activation, LeakyReLU) else 0.0

    def forward(self, t: Tensors) -> None:
        dense.forward(t.x, t.weight, t.bias, t.sums, t.y, t.activation, t.slope)

    def backward(self, t: Tensors) -> None:
        dense.backward_output(t.dy, t.y, t.activation, t.slope, t.dz, t.dbias)
        dense.backward(t.dz, t.x, t.weight, t.dweight, t.none, t.dx)
