"""The file of a checkpoint: a model's file with the optimizer's vectors and the position in the training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from minitrain.graph.graph import Graph
from minitrain.graph.json import graph_to_json
from minitrain.model import file as model_file
from minitrain.training.resuming import PREFIX, read_position, run_state
from minitrain.training.step import Learner

__all__ = ["restore", "save_checkpoint"]

METADATA_KEY = "minitrain.training"
VERSION = 1


def save_checkpoint(trainer: Learner, path: str | os.PathLike[str]) -> None:
    """Write model, optimizer vectors, steps and epochs, and where a fit is; the file is whole or not there.

    Of several ranks, which all hold the same, the first one writes.

    Raises
    ------
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be written; what was there before is kept.
    """
    if trainer.rank != 0:
        return
    model = trainer.model
    arrays = {**model.params, **model.state}
    arrays |= {model_file.TRAINING_PREFIX + name: slot for name, slot in trainer.slots.items()}
    run, more = run_state(trainer)
    arrays |= {model_file.TRAINING_PREFIX + name: each for name, each in more.items()}
    description = {
        **run,
        "version": VERSION,
        "epoch": trainer.epoch,
        "steps": trainer.steps,
        "optimizer": trainer.optimizer.config(),
    }
    model_file.write(path, model.graph, arrays, model.settings, {METADATA_KEY: json.dumps(description)})


def restore(trainer: Learner, path: str | os.PathLike[str]) -> None:
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
    arrays, metadata = model_file.read_arrays(path)
    where = os.fspath(path)
    description = _description(metadata, where)
    slots, weights, more = {}, {}, {}
    for name, each in arrays.items():
        if name.startswith(f"{model_file.TRAINING_PREFIX}{PREFIX}."):
            more[name.removeprefix(model_file.TRAINING_PREFIX)] = each
        elif name.startswith(model_file.TRAINING_PREFIX):
            slots[name.removeprefix(model_file.TRAINING_PREFIX)] = each
        else:
            weights[name] = each
    try:
        go_on = read_position(description, more)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    made_by, used = description["optimizer"]["class"], type(trainer.optimizer).__name__
    if made_by != used or slots.keys() != trainer.slots.keys():
        raise ValueError(f"{where}: saved by {made_by} with {sorted(slots)}, got {used} with {sorted(trainer.slots)}")
    model_file.check(trainer.slots, slots, path)
    model_file.check({**trainer.model.params, **trainer.model.state}, weights, path)
    _expect_graph(trainer.model.graph, metadata, where)
    model_file.fill({**trainer.model.params, **trainer.model.state}, weights, path)
    model_file.fill(trainer.slots, slots, path)
    trainer.epoch, trainer.steps = int(description["epoch"]), int(description["steps"])
    go_on(trainer)


def _expect_graph(graph: Graph, metadata: Mapping[str, str], where: str) -> None:
    """Raise ValueError unless a checkpoint is of this graph, its hyperparameters included; first values may differ."""
    try:
        saved = json.loads(metadata[model_file.METADATA_KEY])["graph"]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{where}: not a saved model ({error})") from None
    here = json.loads(json.dumps(graph_to_json(graph)))
    if not isinstance(saved, dict) or not isinstance(saved.get("nodes"), list):
        raise ValueError(f"{where}: not a saved model (no nodes in its graph)")
    for ours, theirs in zip(here["nodes"], saved["nodes"], strict=False):
        if _without_first_values(ours) != _without_first_values(theirs):
            raise ValueError(f"{where}: another net: expected {json.dumps(ours)}, got {json.dumps(theirs)}")
    rest = {name: each for name, each in here.items() if name != "nodes"}
    if len(here["nodes"]) != len(saved["nodes"]) or rest != {k: v for k, v in saved.items() if k != "nodes"}:
        raise ValueError(
            f"{where}: another net: expected {len(here['nodes'])} layers and {json.dumps(rest)}, got "
            f"{len(saved['nodes'])} layers of {json.dumps(saved.get('inputs'))}"
        )


def _without_first_values(data: Any) -> Any:
    """Leave out initializers: they say nothing about what is computed."""
    if isinstance(data, dict):
        return {name: _without_first_values(each) for name, each in data.items() if not name.endswith("_init")}
    return [_without_first_values(each) for each in data] if isinstance(data, list) else data


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
