"""The nets of the stability experiments: pairs that differ in batch norm and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from minitrain import models
from minitrain.model import Model

__all__ = ["Activation", "Kind", "plain_net", "sigmoid_net", "weight_names"]

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
    return models.plain(
        depth,
        kind,
        tuple(image_shape),
        classes,
        width=width,
        stages=STAGES if kind == "conv" else 1,
        activation=activation,
        norm="before" if batch_norm else None,
        weight_scale=weight_scale,
        seed=seed,
    )


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
