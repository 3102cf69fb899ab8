"""Ranks that do not do the same are refused at the beginning, in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numba
import numpy as np

from minitrain.data.feed import Feed
from minitrain.graph.json import graph_to_json
from minitrain.model import Model
from minitrain.training.ranks.group import Group
from minitrain.version import __version__
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["digest", "expect_alike", "identity_of"]

SHOWN = 60  # characters of what differs; the rest is a hash
DIGEST = 16  # hexadecimal digits


def digest(*arrays: Any) -> str:
    """Return a hash of the bytes of arrays, their shapes and dtypes."""
    found = hashlib.sha256()
    for each in arrays:
        array = np.ascontiguousarray(each)
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:DIGEST]


def identity_of(model: Model, feed: Feed, settings: Mapping[str, Any], deterministic: bool) -> dict[str, str]:
    """Return what has to be the same on all ranks, by names that a user knows."""
    samples = "unknown number of samples" if feed.samples is None else f"{feed.samples} samples"
    graph = json.dumps(graph_to_json(model.graph), sort_keys=True, default=repr)
    identity = {
        "versions": f"minitrain {__version__}, numba {numba.__version__}, numpy {np.__version__}",
        "model": f"{len(model.graph.nodes)} layers, {model.count_parameters()} parameters, {model.dtype}",
        "layers of the model": hashlib.sha256(graph.encode()).hexdigest()[:DIGEST],
        "parameters and state": digest(model.flat_params, model.flat_state),
        **{name: repr(each) for name, each in settings.items()},
        "data": f"{samples}, hash of some of them {digest(*feed.some_inputs())}, batches of {feed.shapes}",
    }
    if deterministic:  # sums are made vector by vector
        identity["vectors"] = f"{VECTOR_BYTES} bytes"
    return identity


def expect_alike(group: Group, identity: Mapping[str, str]) -> str | None:
    """Return what is wrong where the ranks differ, the same words on all of them; None where nothing is."""
    given = group.gathered(dict(identity))
    for name in given[0]:
        for rank, each in enumerate(given):
            if each.get(name) != given[0][name]:
                first, other = (_shortened(str(one.get(name))) for one in (given[0], each))
                return (
                    f"ranks differ in {name}: expected the same on all of them, got {first} on {group.place(0)} and "
                    f"{other} on {group.place(rank)}"
                )
    return None


def _shortened(text: str) -> str:
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}... ({hashlib.sha256(text.encode()).hexdigest()[:DIGEST]})"
