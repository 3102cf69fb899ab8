"""Checkpoints: everything that a run needs to go on bit for bit, in one safetensors file.

Beside the model as `Model.save` writes it, that is the optimizer's vectors, the number of steps (which is the position
in the learning-rate schedule) and of epochs (which is the position in the random order of the samples: the order of an
epoch depends on the seed and its number alone). Random layers keep their position in the model's state. A checkpoint
is a model file as well: `Model.load` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from minitrain.files import write_bytes
from minitrain.model import file as model_file

if TYPE_CHECKING:
    from minitrain.losses import Loss
    from minitrain.optimizers import Optimizer
    from minitrain.training.batches import Metric
    from minitrain.training.trainer import Trainer

__all__ = ["load_checkpoint", "restore", "save_checkpoint"]

METADATA_KEY = "minitrain.training"
VERSION = 1


def save_checkpoint(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write model, optimizer vectors, steps and epochs; the file is whole or not there.

    Raises
    ------
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be written; what was there before is kept.
    """
    arrays, metadata = model_file.contents(trainer.model)
    arrays |= {model_file.TRAINING_PREFIX + name: slot for name, slot in trainer.slots.items()}
    description = {
        "version": VERSION,
        "epoch": trainer.epoch,
        "steps": trainer.steps,
        "optimizer": trainer.optimizer.config(),
    }
    write_bytes(path, model_file.pack(arrays, {**metadata, METADATA_KEY: json.dumps(description)}))


def restore(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Put a trainer where it was when the checkpoint was saved.

    The trainer's model has the same layers and its optimizer is of the same class; other hyperparameters, such as the
    learning rate, may differ. Nothing is changed if an error is raised.

    Raises
    ------
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be read.
    ValueError
        Not a checkpoint, or one of another model or optimizer.
    """
    arrays, metadata = model_file.read(path)
    where = os.fspath(path)
    description = _description(metadata, where)
    slots, weights = {}, {}
    for name, each in arrays.items():
        if name.startswith(model_file.TRAINING_PREFIX):
            slots[name.removeprefix(model_file.TRAINING_PREFIX)] = each
        else:
            weights[name] = each
    made_by, used = description["optimizer"]["class"], type(trainer.optimizer).__name__
    if made_by != used or slots.keys() != trainer.slots.keys():
        raise ValueError(f"{where}: saved by {made_by} with {sorted(slots)}, got {used} with {sorted(trainer.slots)}")
    for name, each in slots.items():
        expected = trainer.slots[name]
        if each.shape != expected.shape or each.dtype != expected.dtype:
            raise ValueError(
                f"{where}: {name}: expected {expected.dtype} {expected.shape}, got {each.dtype} {each.shape}"
            )
    model_file.fill(trainer.model, weights, path)
    for name, each in slots.items():
        trainer.slots[name][...] = each
    trainer.epoch, trainer.steps = int(description["epoch"]), int(description["steps"])


def load_checkpoint(
    path: str | os.PathLike[str],
    loss: Loss,
    optimizer: Optimizer,
    metrics: Mapping[str, Metric] | Iterable[Metric] | None = None,
) -> Trainer:
    """Make a trainer, model included, from a checkpoint; see `restore` for the errors.

    Examples
    --------
    Train for two epochs, later go on for three more::

        trainer.fit(x, y, epochs=2, callbacks=[Checkpoint("run.safetensors")])
        trainer = load_checkpoint("run.safetensors", losses.SoftmaxCrossEntropy(), optimizers.Adam(1e-3))
        trainer.fit(x, y, epochs=3)
    """
    from minitrain.model import Model
    from minitrain.training.trainer import Trainer

    trainer = Trainer(Model.load(path), loss, optimizer, metrics)
    restore(trainer, path)
    return trainer


def _description(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    try:
        description = json.loads(metadata[METADATA_KEY])
        if description["version"] != VERSION:
            raise ValueError(f"version {description['version']}, expected {VERSION}")
        if min(description["epoch"], description["steps"]) < 0 or not description["optimizer"]["class"]:
            raise ValueError("negative epoch or steps")
    except KeyError as error:
        raise ValueError(f"{where}: not a checkpoint (no {error} in its metadata)") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None
    return dict(description)
