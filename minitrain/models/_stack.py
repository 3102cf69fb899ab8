"""Builds nets layer by layer, with norms after or before each activation, or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy.typing as npt

from minitrain.graph import Input, Node
from minitrain.initializers import Glorot, He, Initializer
from minitrain.layer import Layer
from minitrain.layers import (
    Conv2d,
    Dense,
    FilterResponseNorm,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
)
from minitrain.model import Model
from minitrain.models._norms import Norm, Norms, Place

__all__ = ["Activation", "Norm", "Stack"]

Activation = str | Layer

ACTIVATIONS: dict[str, Layer] = {
    "relu": ReLU(),
    "relu6": ReLU6(),
    "leaky_relu": LeakyReLU(),
    "prelu": PReLU(),
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
}


class Stack:
    """A net under construction: `node` is its last layer, and every method adds to it.

    Layers are called conv1, conv2, dense1; the norm and the activation of the n-th of all of them are bn<n> and
    <activation><n>. Names of weights, and with them their first values, are the same whatever `norm` is.

    Parameters
    ----------
    input_shape : tuple of int
        Without the batch axis.
    norm
        As the nets take it, see `models.mlp`. Right before a norm a layer has no bias: batch norm would take it away
        again, and the others but RMSNorm have a shift of their own.
    activation : str or Layer
        A name such as "relu", or a layer such as `LeakyReLU(0.2)` whose copies are used.
    weight_scale : float
        Multiplies the standard deviation of all first weights.
    place : "before" or "after"
        Where the norms are if `norm` does not say it.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        norm: Norm,
        activation: Activation,
        weight_scale: float,
        place: Place = "before",
    ) -> None:
        norms = Norms(norm, place)
        if isinstance(activation, str):
            if activation not in ACTIVATIONS:
                raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)} or a layer, got {activation!r}")
            activation = ACTIVATIONS[activation]
        elif not isinstance(activation, Layer):
            raise TypeError(f"activation: expected a name or a layer, got {activation!r}")
        self.input = Input(input_shape)
        self.node: Node = self.input
        self.norms = norms
        self._activation = activation
        self._weight_scale = weight_scale
        self._normalized = self._left_out = False  # at some place
        self._count = 0
        self._kinds = {"conv": 0, "dense": 0, "pool": 0}

    def conv(self, filters: int, kernel_size: int = 3, stride: int = 1, padding: int | None = None) -> None:
        """Add a convolution (by default one that keeps the size of the plane) with norm and activation."""
        padding = kernel_size // 2 if padding is None else padding
        layer = Conv2d(
            filters,
            kernel_size,
            stride,
            padding,
            bias=self.norms.leaves_bias((filters, 1, 1)),
            weight_init=self.initializer(),
            name=self._next("conv"),
        )
        self.node = layer(self.node)
        self._activate()

    def dense(self, features: int) -> None:
        """Add a dense layer with norm and activation; planes are flattened first."""
        self.flatten()
        bias = self.norms.leaves_bias((features,))
        layer = Dense(features, bias=bias, weight_init=self.initializer(), name=self._next("dense"))
        self.node = layer(self.node)
        self._activate()

    def pool(self) -> None:
        """Halve the plane by the largest of 2 x 2 values."""
        self.node = MaxPool2d(2, name=self._next("pool"))(self.node)

    def flatten(self) -> None:
        """Make vectors of planes."""
        if len(self.node.shape) > 1:
            self.node = Flatten(name="flatten")(self.node)

    def head(self, classes: int) -> None:
        """Add the dense layer of logits, called "head"."""
        self.flatten()
        self.node = Dense(classes, weight_init=self.head_initializer(), name="head")(self.node)

    def model(self, seed: int, dtype: npt.DTypeLike) -> Model:
        """Return the model from the input to the last layer."""
        if self._left_out and not self._normalized:
            raise ValueError(f"norm: expected one for vectors in a net without planes, got {self.norms.given!r}")
        return Model(self.input, self.node, seed=seed, dtype=dtype)

    def initializer(self) -> Initializer:
        """Return what weights before an activation start from: He for the family of ReLU, Glorot for the others."""
        if isinstance(self._activation, (ReLU, ReLU6, LeakyReLU, PReLU)):
            return He(scale=self._weight_scale)
        return Glorot(scale=self._weight_scale)

    def head_initializer(self) -> Initializer:
        """Return what the weights of the logits start from."""
        return Glorot(scale=self._weight_scale)

    def normalize(self, name: str, x: Node, place: Place) -> Node:
        """Add a norm where the net has its norms at this place; else return x."""
        if self.norms.place != place:
            return x
        norm = self.norms.layer(name, x.shape)
        if norm is None:
            self._left_out = True
            return x
        self._normalized = True
        node: Node = norm(x)
        return node

    def activation(self, name: str) -> Layer:
        """Return a copy of the activation under this name."""
        return replace(self._activation, name=name)

    def activate(self, norm_name: str, name: str, x: Node) -> Node:
        """Add an activation with the norm before or after it.

        The threshold that `FilterResponseNorm` learns is its activation: there is no ReLU right behind one.
        """
        h = self.normalize(norm_name, x, "before")
        if h is x or not (isinstance(h.layer, FilterResponseNorm) and isinstance(self._activation, ReLU)):
            h = self.activation(name)(h)
        return self.normalize(norm_name, h, "after")

    def _activate(self) -> None:
        self._count += 1
        self.node = self.activate(f"bn{self._count}", f"{self._activation.prefix}{self._count}", self.node)

    def _next(self, kind: str) -> str:
        self._kinds[kind] += 1
        return f"{kind}{self._kinds[kind]}"
