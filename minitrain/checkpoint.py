"""Checkpoints: everything that a run needs to go on bit for bit, in one safetensors file.

Beside the model as `Model.save` writes it, that is the optimizer's vectors, the number of steps (which is the position
in the learning-rate schedule) and of epochs (which is the position in the random order of the samples: the order of an
epoch depends on the seed and its number alone). Random layers keep their position in the model's state. A checkpoint
is a model file as well: `Model.load` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from minitrain.layer import Layer
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.objective.measures import Metrics
from minitrain.optimizers import Optimizer
from minitrain.training.checkpoint_file import restore, save_checkpoint
from minitrain.training.trainer import Trainer

__all__ = ["load_checkpoint", "restore", "save_checkpoint"]


def load_checkpoint(
    path: str | os.PathLike[str],
    loss: Loss | Mapping[str, Loss],
    optimizer: Optimizer,
    metrics: Metrics = None,
    layers: Iterable[type[Layer]] = (),
    *,
    loss_weights: Mapping[str, float] | None = None,
    **options: Any,
) -> Trainer:
    """Make a trainer, model included, from a checkpoint; see `restore` for the errors.

    `layers` are the classes of the model's layers that are not minitrain's, as for `Model.load`. Other options are
    those of `Trainer`, such as `comm`: a checkpoint does not know how many ranks have made it.

    Examples
    --------
    Train for two epochs, later go on for three more::

        trainer.fit(x, y, epochs=2, callbacks=[Checkpoint("run.safetensors")])
        trainer = load_checkpoint("run.safetensors", losses.SoftmaxCrossEntropy(), optimizers.Adam(1e-3))
        trainer.fit(x, y, epochs=3)
    """
    trainer = Trainer(Model.load(path, layers), loss, optimizer, metrics, loss_weights=loss_weights, **options)
    restore(trainer, path)
    return trainer
