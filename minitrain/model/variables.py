"""A model's parameters and state: flat memory, views by name, first values from the seed."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from minitrain.graph.graph import Graph
from minitrain.layer import Buffer
from minitrain.optimizers import ParameterRun, ParameterRuns
from minitrain.sealed import Sealed
from nbnorm.jit.arrays import Array

__all__ = ["Variables", "checked_values", "declared_variables", "first_value", "flat_views", "state_views"]

STATE_ALIGNMENT = 16  # bytes; state mixes dtypes


class Variables(Sealed, Mapping[str, Array], sealed=True):
    """Named arrays that are views of one flat array. Reading gives the live view; assigning copies into it.

    Parameters
    ----------
    kind : str
        "parameter", "state", "gradient": for messages.
    views : mapping of name to array

    Examples
    --------
    >>> from minitrain import models
    >>> params = models.mlp((2,), classes=2, hidden=(), seed=0).params
    >>> params["head.bias"] = [1, 2]
    >>> params.update({"head.bias": [3, 4], "head.weight": [[1, 0], [0, 1]]})
    >>> params["head.bias"].tolist()
    [3.0, 4.0]
    """

    def __init__(self, kind: str, views: Mapping[str, Array]) -> None:
        self._kind = kind
        self._views = dict(views)

    def __getitem__(self, name: str) -> Array:
        try:
            return self._views[name]
        except KeyError:
            raise KeyError(self._unknown(name)) from None

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        view = self[name]
        if value is not view:  # as after `params[name] *= 2`
            view[...] = checked_values(name, value, view)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{self._kind} {name!r}: cannot be deleted, a layer of the model needs it")

    def update(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Copy some of the arrays in: all or, where one of them does not fit, none.

        Raises
        ------
        KeyError
            A name that there is not.
        TypeError, ValueError
            A shape that does not fit, or values that the array cannot hold.
        """
        if not isinstance(arrays, Mapping):
            raise TypeError(f"{self._kind}s: expected a mapping of name to array, got {type(arrays).__name__}")
        checked = [(self[name], checked_values(name, each, self[name])) for name, each in arrays.items()]
        for view, values in checked:
            view[...] = values

    def assign(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Copy all of the arrays in: what `model.params = arrays` does.

        Raises
        ------
        TypeError, ValueError
            Names that are missing or unknown, a shape that does not fit, or values that an array cannot hold. Nothing
            has been copied then.
        """
        if isinstance(arrays, Mapping):
            unknown = [name for name in arrays if name not in self._views]
            if unknown:
                raise ValueError(self._unknown(unknown[0]))
            missing = [name for name in self._views if name not in arrays]
            if missing:
                raise ValueError(
                    f"{self._kind}s: expected all of them, {', '.join(map(repr, missing))} left out; to set some, use "
                    "update({...})"
                )
        self.update(arrays)

    def __ior__(self, arrays: Mapping[str, npt.ArrayLike]) -> Variables:
        self.update(arrays)
        return self

    def _unknown(self, name: object) -> str:
        nearest = difflib.get_close_matches(name, self._views, n=1) if isinstance(name, str) else []
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        return f"{self._kind} {name!r}: expected one of {', '.join(self._views) or 'none'}{hint}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        entries = ", ".join(f"{name}: {view.shape}" for name, view in self._views.items())
        return f"<{self._kind}s {entries}>"


def checked_values(label: str, given: npt.ArrayLike, target: Array) -> Array:
    """Return what was given as an array of its own that can be copied into `target` and is what was meant.

    Raises
    ------
    TypeError
        No real numbers; floats where whole numbers are kept.
    ValueError
        Another shape, or values that the target's dtype cannot hold.
    """
    try:
        values = np.asarray(given)
    except ValueError:
        raise ValueError(f"{label}: expected shape {target.shape}, got lists of different lengths") from None
    expected = {"f": "numbers", "b": "booleans"}.get(target.dtype.kind, "whole numbers")
    if values.dtype.kind not in {"f": "fiub", "b": "b"}.get(target.dtype.kind, "iub"):
        came = "" if isinstance(given, np.ndarray) else f"{type(given).__name__} of "
        raise TypeError(f"{label}: expected {expected}, got {came}dtype {values.dtype}")
    if values.shape != target.shape:
        hint = f"; to fill it with one value, write [...] = {given!r}" if values.ndim == 0 else ""
        raise ValueError(f"{label}: expected shape {target.shape}, got {values.shape}{hint}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast: Array = values.astype(target.dtype)
    if target.dtype.kind == "f":
        lost = np.isinf(cast) & np.isfinite(values)
    else:
        lost = (cast != values) | ((cast < 0) != (values < 0))
    if lost.any():
        raise ValueError(f"{label}: expected values that {target.dtype} holds, got {values[lost].flat[0]}")
    return cast


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


def parameter_runs(buffers: Mapping[str, Buffer], frozen: Collection[str] = ()) -> ParameterRuns:
    """Return where each parameter lies in the flat vector: penalized ones first, each kind in the graph's order."""
    runs = []
    start = 0
    for name in sorted(buffers, key=lambda name: not buffers[name].penalized):
        stop = start + int(np.prod(buffers[name].shape))
        runs.append(ParameterRun(slice(start, stop), buffers[name].penalized, name, name in frozen))
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
