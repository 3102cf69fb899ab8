"""The nets of the stability experiments: pairs that differ in batch norm and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from minitrain import models
from minitrain.graph import Input, Node
from minitrain.initializers import Glorot, He
from minitrain.layers import BatchNorm, Conv2d, Dense, GlobalAvgPool, ReLU, Sigmoid
from minitrain.model import Model

__all__ = ["Activation", "Kind", "hidden_layers", "plain_net", "sigmoid_net", "weight_names"]

Kind = Literal["dense", "conv"]
Activation = Literal["relu", "sigmoid"]
STAGES = 3


def plain_net(
    kind: Kind,
    activation: Activation,
    depth: int,
    *,
    batch_norm: bool,
    image_shape: Sequence[int],
    classes: int,
    width: int,
    seed: int,
    weight_scale: float = 1.0,
) -> Model:
    """Return a net of `depth` layers with weights and no shortcuts.

    "dense": depth - 1 layers of `width` units. "conv": the plain nets of He et al. 2016, section 4.2, scaled down:
    three stages of 3 x 3 convolutions with `width`, 2 `width` and 4 `width` filters, the first of a later stage in
    steps of two, then the mean over the plane. Batch norm goes before each activation. First weights are those of He
    et al. 2015 for ReLU and of Glorot & Bengio 2010 for sigmoid; they are the same with and without batch norm.
    """
    if kind == "dense":
        return models.plain(
            depth,
            "dense",
            tuple(image_shape),
            classes,
            width=width,
            activation=activation,
            norm="before" if batch_norm else None,
            weight_scale=weight_scale,
            seed=seed,
        )
    image = Input(image_shape)
    node = _conv_stages(image, activation, depth - 1, batch_norm, width, weight_scale)
    node = GlobalAvgPool(name="pool")(node)
    logits = Dense(classes, weight_init=Glorot(scale=weight_scale), name="head")(node)
    return Model(image, logits, seed=seed)


def _conv_stages(
    node: Node, activation: Activation, count: int, batch_norm: bool, width: int, weight_scale: float
) -> Node:
    first_weights = He(scale=weight_scale) if activation == "relu" else Glorot(scale=weight_scale)
    stages = [STAGES * index // count for index in range(count)]
    large = min(node.shape[1:]) >= 16  # then the first layer steps by two as well, for the sake of time
    for index, stage in enumerate(stages):
        smaller = stage != stages[index - 1] if index else large
        node = Conv2d(
            width * 2**stage,
            3,
            stride=2 if smaller else 1,
            padding=1,
            bias=not batch_norm,
            weight_init=first_weights,
            name=f"conv{index + 1}",
        )(node)
        if batch_norm:
            node = BatchNorm(name=f"bn{index + 1}")(node)
        node = (ReLU if activation == "relu" else Sigmoid)(name=f"{activation}{index + 1}")(node)
    return node


def sigmoid_net(
    *, batch_norm: bool, image_shape: Sequence[int], classes: int, hidden: Sequence[int], std: float, seed: int
) -> Model:
    """Return the net of Ioffe & Szegedy 2015, section 4.1: sigmoid layers that start from small Gaussian weights."""
    model = models.mlp(
        tuple(image_shape),
        classes,
        tuple(hidden),
        activation="sigmoid",
        norm="before" if batch_norm else None,
        seed=seed,
    )
    for number, name in enumerate(weight_names(model)):
        rng = np.random.default_rng([seed, number])
        model.params[name][...] = std * rng.standard_normal(model.params[name].shape)
    return model


def weight_names(model: Model) -> list[str]:
    """Return the names of the weights, from the first layer to the last."""
    return [f"{node.name}.weight" for node in model.graph.nodes if f"{node.name}.weight" in model.params]


def hidden_layers(model: Model) -> int:
    """Return the number of layers with weights before the last one."""
    return len(weight_names(model)) - 1
