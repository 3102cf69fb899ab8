"""Fits a trained net to data that are shifted against those it was trained on, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from minitrain import layers
from minitrain.losses import Loss, SoftmaxCrossEntropy
from minitrain.model import Model
from minitrain.optimizers import Adam
from minitrain.training.statistics.calibration import calibrate_on
from minitrain.training.statistics.norms import norms_of
from minitrain.training.step import Learner
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, expect_one_of, mismatch

__all__ = ["Method", "adapt_to"]

Method = Literal["statistics", "mixture", "tent"]
METHODS = ("statistics", "mixture", "tent")
WITH_AFFINE = (
    layers.BatchNorm, layers.ConditionalBatchNorm, layers.FilterResponseNorm, layers.GroupNorm, layers.InstanceNorm,
    layers.LayerNorm, layers.RMSNorm,
)  # fmt: skip


@dataclass(frozen=True)
class Entropy(Loss):
    """Mean entropy of softmax(outputs), in nats; there are no targets."""

    def targets(self, targets: npt.ArrayLike, output_shape: tuple[int, ...]) -> Array:
        return np.zeros(output_shape[0])

    def __call__(self, outputs: Array, targets: Array, gradient: Array | None = None) -> float:
        log_p = log_softmax(outputs.astype(np.float64), axis=1)
        p = np.exp(log_p)
        entropy = -(p * log_p).sum(axis=1, keepdims=True)
        if gradient is not None:
            gradient[...] = p * (-log_p - entropy) / len(outputs)
        return float(entropy.mean())


def adapt_to(
    trainer: Learner, x: Any, method: Method, *, batch_size: int, prior: float, learning_rate: float, epochs: int
) -> None:
    """Do what `Trainer.adapt` does."""
    expect_one_of("method", method, METHODS)
    batch_size, epochs = expect_integer("batch_size", batch_size, 2), expect_integer("epochs", epochs, 1)
    prior, optimizer = expect_number("prior", prior, 0.0), Adam(learning_rate)
    model, arrays = trainer.model, trainer.model.check_inputs(x)
    if not norms_of(model.graph) and method != "tent":
        raise ValueError(
            f"adapt: expected a net whose running statistics move for method={method!r}, got one without a BatchNorm "
            "that is not frozen"
        )
    if method == "tent":
        _expect_logits(trainer)
        _expect_two(arrays)
    params, state = model.flat_params.copy(), model.flat_state.copy()
    norms = norms_of(model.graph).values()
    source = {name: model.state[name].astype(np.float64) for norm in norms for name in (norm.mean, norm.var)}
    try:
        calibrate_on(model, trainer.objective, arrays, batch_size, trainer.spread)
        if method == "mixture":
            weight = len(arrays[0]) / (len(arrays[0]) + prior)
            for name, old in source.items():
                model.state[name][...] = (1.0 - weight) * old + weight * model.state[name]
        elif method == "tent":
            _minimize_entropy(model, arrays, batch_size, optimizer, epochs)
            model.flat_state[...] = state  # what counts batches, or draws, did not train
            calibrate_on(model, trainer.objective, arrays, batch_size, trainer.spread)
    except BaseException:
        model.flat_params[...], model.flat_state[...] = params, state
        raise
    if trainer.spread is not None:
        trainer.spread.make_alike([model.flat_params, model.flat_state])


def _expect_logits(trainer: Learner) -> None:
    only = trainer.objective.only
    if only is None or not isinstance(only.loss, SoftmaxCrossEntropy):
        raise ValueError(
            "adapt: expected a net with one output that SoftmaxCrossEntropy trains for method='tent', got "
            f"loss={trainer.loss!r}"
        )


def _expect_two(arrays: list[Array]) -> None:
    if len(arrays[0]) < 2:
        raise ValueError(mismatch("x", "two or more samples for method='tent'", len(arrays[0])))


def _minimize_entropy(model: Model, arrays: list[Array], batch_size: int, optimizer: Adam, epochs: int) -> None:
    """Train scale and shift of all norms, and nothing else, on the entropy of the predictions."""
    frozen = model.graph.frozen
    own = {
        node.variable(name)
        for node in model.graph.nodes
        if isinstance(node.layer, WITH_AFFINE)
        for name in ("gamma", "beta")
        if node.variable(name) in model.params
    }
    if not own - frozen:
        raise ValueError("adapt: expected a net with norms that learn gamma or beta for method='tent', got none")
    model._set_frozen(frozen | (frozenset(model.params) - own))
    try:
        learner = Learner(model, Entropy(), optimizer)
        count = len(arrays[0])
        for _ in range(epochs):
            for part in np.array_split(np.arange(count), max(count // batch_size, 1)):
                xb = [each[part] for each in arrays]
                learner.step(xb if len(xb) > 1 else xb[0], np.zeros(len(part)))
    finally:
        model._set_frozen(frozen)
