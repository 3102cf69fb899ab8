"""A model's parameters and state: flat memory, views by name, first values from the seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from minitrain.graph.graph import Graph
from minitrain.layer import Buffer
from minitrain.optimizers import ParameterRun, ParameterRuns
from nbnorm.jit.arrays import Array

__all__ = ["Variables", "declared_variables"]

STATE_ALIGNMENT = 16  # bytes; state mixes dtypes


class Variables(Mapping[str, Array]):
    """Named arrays that are views of one flat array. Reading gives the live view; assigning copies into it."""

    def __init__(self, kind: str, views: Mapping[str, Array]) -> None:
        self._kind = kind
        self._views = dict(views)

    def __getitem__(self, name: str) -> Array:
        try:
            return self._views[name]
        except KeyError:
            raise KeyError(f"{self._kind} {name!r}: expected one of {', '.join(self._views) or 'none'}") from None

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        view, given = self[name], np.asarray(value)
        if given.shape != view.shape:
            raise ValueError(f"{name}: expected shape {view.shape}, got {given.shape}")
        view[...] = given

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        entries = ", ".join(f"{name}: {view.shape}" for name, view in self._views.items())
        return f"<{self._kind}s {entries}>"


def declared_variables(graph: Graph) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
    """Return the parameters and the state that the layers of a graph declare, by the model's names.

    Layers that share a variable declare it alike; it is there once.

    Raises
    ------
    ValueError
        Two layers that name one variable and disagree about it.
    """
    params: dict[str, Buffer] = {}
    state: dict[str, Buffer] = {}
    owners: dict[str, str] = {}
    declarations = graph.declarations(2)
    for node in graph.nodes:
        declaration = declarations[node.name]
        for declared, variables, others in (
            (declaration.params, params, state),
            (declaration.state, state, params),
        ):
            for local, buffer in declared.items():
                name = node.variable(local)
                owner = owners.setdefault(name, node.name)
                known = variables.setdefault(name, buffer)
                if name in others or (known.shape, known.dtype) != (buffer.shape, buffer.dtype):
                    raise ValueError(
                        f"{node.name}: shares {name} with {owner}, where its shape is {known.shape}; here it would be "
                        f"{buffer.shape}: call the layer on inputs that need the same shape, or make another layer"
                    )
    return params, state


def first_value(name: str, buffer: Buffer, seed: int) -> Array:
    """Return the first content of a variable: it depends on the seed and the name alone, so that models which share
    layers share their first weights too."""
    if buffer.fill is None:
        raise ValueError(f"{name}: declared without a first value")
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return np.asarray(buffer.fill(generator, buffer.shape, buffer.fan_in, buffer.fan_out))


def flat_views(buffers: Mapping[str, Buffer], flat: Array) -> dict[str, Array]:
    """Cut a flat array of one dtype into the declared shapes, in the order of `parameter_runs`."""
    views = {each.name: flat[each.run].reshape(buffers[each.name].shape) for each in parameter_runs(buffers)}
    return {name: views[name] for name in buffers}


def parameter_runs(buffers: Mapping[str, Buffer]) -> ParameterRuns:
    """Return where each parameter lies in the flat vector: penalized ones first, each kind in the graph's order."""
    runs = []
    start = 0
    for name in sorted(buffers, key=lambda name: not buffers[name].penalized):
        stop = start + int(np.prod(buffers[name].shape))
        runs.append(ParameterRun(slice(start, stop), buffers[name].penalized, name))
        start = stop
    return ParameterRuns(runs)


def state_views(buffers: Mapping[str, Buffer], dtype: np.dtype) -> tuple[npt.NDArray[np.uint8], dict[str, Array]]:
    """Lay state of several dtypes into one array of bytes; returns the bytes and the views."""
    places, total = {}, 0
    for name, buffer in buffers.items():
        each = np.dtype(buffer.dtype or dtype)
        size = int(np.prod(buffer.shape)) * each.itemsize
        places[name] = (total, size, each)
        total += -(-size // STATE_ALIGNMENT) * STATE_ALIGNMENT
    flat = np.zeros(total, np.uint8)
    views = {
        name: flat[start : start + size].view(each).reshape(buffers[name].shape)
        for name, (start, size, each) in places.items()
    }
    return flat, views
