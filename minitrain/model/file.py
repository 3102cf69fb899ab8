"""Models as safetensors files: arrays by their names, the graph as JSON in the metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minitrain.files import write_bytes
from minitrain.graph.graph import Graph
from minitrain.graph.json import graph_from_json, graph_to_json
from minitrain.optional import require

if TYPE_CHECKING:
    from minitrain.model.model import Model

__all__ = ["TRAINING_PREFIX", "contents", "fill", "load", "pack", "read", "save"]

METADATA_KEY = "minitrain"
TRAINING_PREFIX = ".optimizer."  # of the arrays a checkpoint has beside the model's (no layer's name is empty)
VERSION = 1
Array = npt.NDArray[Any]


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model; see `Model.save`."""
    write_bytes(path, pack(*contents(model)))


def contents(model: Model) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a model's file."""
    description = {
        "version": VERSION,
        "dtype": str(model.dtype),
        "seed": model.seed,
        "fuse": model.fuse,
        "graph": graph_to_json(model.graph),
    }
    return {**model.params, **model.state}, {METADATA_KEY: json.dumps(description)}


def pack(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file.

    The library writes the memory of an array as it lies, whatever its strides: only C-contiguous ones may reach it.
    """
    safetensors = require("safetensors.numpy", "saving and loading models")
    contiguous = {name: np.ascontiguousarray(each) for name, each in arrays.items()}
    packed: bytes = safetensors.save(contiguous, metadata=dict(metadata))
    return packed


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file; ValueError where it is not one."""
    safetensors = require("safetensors", "saving and loading models")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return arrays, dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f"{os.fspath(path)}: not a readable safetensors file ({error})") from None


def load(path: str | os.PathLike[str]) -> tuple[Graph, dict[str, Array], dict[str, Any]]:
    """Return graph, arrays and the model's settings."""
    arrays, metadata = read(path)
    try:
        description = json.loads(metadata[METADATA_KEY])
        if description["version"] != VERSION:
            raise ValueError(f"version {description['version']}, expected {VERSION}")
        graph = graph_from_json(description["graph"])
        settings = {name: description[name] for name in ("seed", "dtype", "fuse")}
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)}: not a saved model (no {error} in its metadata)") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    return graph, {name: each for name, each in arrays.items() if not name.startswith(TRAINING_PREFIX)}, settings


def fill(model: Model, arrays: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Copy arrays into a model; ValueError unless names, shapes and dtypes are exactly the model's."""
    variables = {**model.params, **model.state}
    missing, unknown = sorted(set(variables) - set(arrays)), sorted(set(arrays) - set(variables))
    if missing or unknown:
        raise ValueError(f"{os.fspath(path)}: missing arrays {missing}, unknown arrays {unknown}")
    for name, target in variables.items():
        given = arrays[name]
        if given.shape != target.shape or given.dtype != target.dtype:
            expected = f"{target.dtype} {target.shape}"
            raise ValueError(f"{os.fspath(path)}: {name}: expected {expected}, got {given.dtype} {given.shape}")
        target[...] = given
