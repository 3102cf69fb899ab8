"""Models as safetensors files: arrays by their names, the graph as JSON in the metadata."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minitrain.files import reading, write_bytes
from minitrain.graph.graph import Graph
from minitrain.graph.json import graph_from_json, graph_to_json, known_classes
from minitrain.layer import Layer, Shape
from minitrain.model.variables import declared_variables
from minitrain.optional import require
from nbnorm.jit.arrays import Array

__all__ = ["METADATA_KEY", "TRAINING_PREFIX", "check", "fill", "pack", "read", "read_arrays", "write"]

METADATA_KEY = "minitrain"
CHECKSUM_KEY = "minitrain.sha256"  # of everything else in the file
TRAINING_PREFIX = ".optimizer."  # of the arrays a checkpoint has beside the model's (no layer's name is empty)
SETTINGS = ("dtype", "seed", "fuse")
VERSION = 1


def write(
    path: str | os.PathLike[str],
    graph: Graph,
    arrays: Mapping[str, Array],
    settings: Mapping[str, Any],
    more: Mapping[str, str] | None = None,
) -> None:
    """Write a model, whole or not at all; see `Model.save`.

    Parameters
    ----------
    path : str or path-like
    graph : Graph
    arrays : mapping of name to array
        Parameters and state, and whatever else the file is to hold under names that begin with `TRAINING_PREFIX`.
    settings : mapping
        "dtype", "seed" and "fuse" of the model.
    more : mapping of str to str, optional
        Further entries of the metadata.
    """
    description = {"version": VERSION, **{name: settings[name] for name in SETTINGS}, "graph": graph_to_json(graph)}
    write_bytes(path, pack(arrays, {METADATA_KEY: json.dumps(description), **(more or {})}))


def read(
    path: str | os.PathLike[str], layers: Iterable[type[Layer]] = ()
) -> tuple[Graph, dict[str, Array], dict[str, Any]]:
    """Return graph, arrays (parameters and state) and settings of a model's file; ValueError where it is none.

    `layers` are the classes of layers that are not minitrain's.
    """
    classes = known_classes(layers)
    arrays, metadata = read_arrays(path)
    try:
        description = json.loads(metadata[METADATA_KEY])
        if description["version"] != VERSION:
            raise ValueError(f"version {description['version']}, expected {VERSION}")
        graph = graph_from_json(description["graph"], classes)
        settings = {name: description[name] for name in SETTINGS}
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)}: not a saved model (no {error} in its metadata)") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    weights = {name: each for name, each in arrays.items() if not name.startswith(TRAINING_PREFIX)}
    _check_claims(graph, weights, settings["dtype"], path)
    return graph, weights, settings


def _check_claims(graph: Graph, arrays: Mapping[str, Array], dtype: Any, path: str | os.PathLike[str]) -> None:
    """Raise ValueError where the arrays are not those that the graph declares, before memory is taken for these."""
    try:
        params, state = declared_variables(graph)
        declared = {name: (each.shape, np.dtype(each.dtype or dtype)) for name, each in {**params, **state}.items()}
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    _check(declared, arrays, path)


def pack(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file.

    The library writes the memory of an array as it lies, whatever its strides: only C-contiguous ones may reach it.
    """
    safetensors = require("safetensors.numpy", "saving and loading models")
    contiguous = {name: np.asarray(each, order="C") for name, each in arrays.items()}  # one of no axes stays one
    signed = {**metadata, CHECKSUM_KEY: _checksum(contiguous, metadata)}
    packed: bytes = safetensors.save(contiguous, metadata=signed)
    return packed


def _checksum(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of all that a file says, in an order that does not depend on how it lies there."""
    digest = hashlib.sha256()
    for key, text in sorted(metadata.items()):
        digest.update(json.dumps([key, text]).encode())
    for name, each in sorted(arrays.items()):
        digest.update(json.dumps([name, str(each.dtype), list(each.shape)]).encode())
        digest.update(np.ascontiguousarray(each).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file; ValueError where it is not one, or was damaged.

    Files that were written without a checksum are read, too.
    """
    safetensors = require("safetensors", "saving and loading models")
    where = os.path.expanduser(os.fspath(path))
    with reading(path, "safetensors file"), safetensors.safe_open(where, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = dict(file.metadata() or {})
    written = metadata.pop(CHECKSUM_KEY, None)
    if written is not None and written != _checksum(arrays, metadata):
        raise ValueError(f"{os.fspath(path)}: damaged: its SHA-256 is not the one that was written with it")
    return arrays, metadata


def fill(variables: Mapping[str, Array], arrays: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Copy what was read into a model's variables, all or, where `check` raises, none."""
    check(variables, arrays, path)
    for name, variable in variables.items():
        variable[...] = arrays[name]


def check(variables: Mapping[str, Array], arrays: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless names, shapes and dtypes of what was read are exactly those of the variables."""
    _check({name: (each.shape, each.dtype) for name, each in variables.items()}, arrays, path)


def _check(
    expected: Mapping[str, tuple[Shape, np.dtype]], arrays: Mapping[str, Array], path: str | os.PathLike[str]
) -> None:
    missing, unknown = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
    if missing or unknown:
        raise ValueError(f"{os.fspath(path)}: missing arrays {missing}, unknown arrays {unknown}")
    for name, (shape, dtype) in expected.items():
        given = arrays[name]
        if given.shape != shape or given.dtype != dtype:
            raise ValueError(f"{os.fspath(path)}: {name}: expected {dtype} {shape}, got {given.dtype} {given.shape}")
