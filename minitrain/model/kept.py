"""What a model is made of and what it keeps: a graph, settings, parameters, state, gradients; and copies of these."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.graph.graph import SINGLE, Graph
from minitrain.layer import Buffer, FreeShape, Node
from minitrain.model.copying import VERSION, copies, version_checked
from minitrain.model.plans import Plans
from minitrain.model.variables import (
    Variables,
    checked_values,
    declared_variables,
    first_value,
    flat_views,
    parameter_runs,
    state_views,
)
from minitrain.optimizers import ParameterRuns
from minitrain.sealed import Sealed
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_boolean, expect_integer

__all__ = ["Kept"]

FREEZE = 'write model.freeze("conv*") to keep layers as they are, model.unfreeze("conv*") to train them again'
TRAINER = "give it to Trainer(model, loss, optimizer)"


class Kept(Sealed, sealed=True):
    """A model, but for running it; see `Model`.

    The arrays are allocated once. Plans, optimizers and users hold views of them, so that assigning copies in.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        "dtype": 'make a model of that dtype: Model(..., dtype="float64")',
        "seed": "make a model with that seed: Model(..., seed=1)",
        "fuse": "make such a model: Model(..., fuse=False)",
        "settings": "make such a model: Model(..., seed=1, dtype=..., fuse=...)",
        "graph": "make a model of that graph: Model.from_graph(graph)",
        "layers": "make a model of other layers",
        "input_shapes": "make a model with other inputs: Model(Input(shape), ...)",
        "output_shape": "it follows from the layers; make a model of others",
        "output_names": 'make a model with other outputs: Model(x, {"name": node})',
        "parameter_runs": "they follow from the layers, and from what is frozen",
        "penalized": "the optimizer says what is penalized",
        "frozen": FREEZE,
        "trainable": FREEZE,
        "requires_grad": FREEZE,
        "training": "there is no mode: a trainer's steps train, predict and evaluate do not",
        "weights": "write model.params = {...}, or model.params[name] = array",
        "learning_rate": "give it to the optimizer: Adam(learning_rate)",
        "loss": TRAINER,
        "optimizer": TRAINER,
        "metrics": TRAINER,
    }

    # What `_build` makes; all other attributes are those of a user's subclass, and copied.
    _names: dict[Node, str]  # of the nodes that the user made
    _dtype: np.dtype
    _seed: int
    _fuse: bool
    _graph: Graph
    _output_shapes: dict[str, FreeShape]
    _param_buffers: dict[str, Buffer]
    _flat_params: Array
    _parameter_runs: ParameterRuns
    _params: Variables
    _flat_state: npt.NDArray[np.uint8]
    _state: Variables
    _flat_gradients: Array | None
    _gradients: Variables | None
    _plans: Plans

    def _keep(self, graph: Graph, seed: int, dtype: npt.DTypeLike, fuse: bool) -> None:
        """Allocate what the layers of a graph declare, and give it its first values."""
        self._dtype = np.dtype(dtype)
        if self._dtype not in FLOATS:
            raise ValueError(f"dtype: expected float32 or float64, got {self._dtype}")
        self._seed, self._fuse, self._graph = expect_integer("seed", seed, 0), expect_boolean("fuse", fuse), graph
        shapes = graph.free_shapes()
        self._output_shapes = {name: shapes[value] for name, value in graph.outputs.items()}
        self._param_buffers, state = declared_variables(graph)
        size = sum(int(np.prod(buffer.shape)) for buffer in self._param_buffers.values())
        self._flat_params = np.zeros(size, self._dtype)
        self._parameter_runs = parameter_runs(self._param_buffers, graph.frozen)
        self._params = Variables("parameter", flat_views(self._param_buffers, self._flat_params))
        self._flat_state, views = state_views(state, self._dtype)
        self._state = Variables("state", views)
        for variables, buffers in ((self._params, self._param_buffers), (self._state, state)):
            for name, buffer in buffers.items():
                variables[name] = first_value(name, buffer, self._seed).astype(variables[name].dtype)
        self._flat_gradients = None
        self._gradients = None

    def _build(self, graph: Graph, seed: int, dtype: npt.DTypeLike, fuse: bool) -> None:
        """Make everything that follows from these; in `Model`."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------- what it is made of

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, activations and gradients."""
        return self._dtype

    @property
    def seed(self) -> int:
        """What parameters started from."""
        return self._seed

    @property
    def fuse(self) -> bool:
        """Whether neighbouring layers may be run as one."""
        return self._fuse

    @property
    def graph(self) -> Graph:
        """The layers by name, as the user wrote them."""
        return self._graph

    @property
    def settings(self) -> dict[str, Any]:
        """What makes a model of its graph, beside parameters and state: the other arguments of `from_graph`."""
        return {"dtype": str(self.dtype), "seed": self.seed, "fuse": self.fuse}

    @property
    def input_shapes(self) -> dict[str, FreeShape]:
        """Shapes of the inputs by name, without the batch axis; None for a free axis."""
        return {name: spec.shape for name, spec in self.graph.inputs.items()}

    @property
    def output_shape(self) -> Any:
        """Shape of the output without the batch axis; a dictionary of shapes where the outputs have names."""
        return self._output_shapes[SINGLE] if self.graph.is_single else dict(self._output_shapes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs; none where the model returns one array."""
        return () if self.graph.is_single else tuple(self.graph.outputs)

    @property
    def parameter_runs(self) -> ParameterRuns:
        """Where each parameter lies in `flat_params`, whether penalties reach it and whether it is frozen.

        The same object at each call, until something is frozen or no longer.
        """
        return self._parameter_runs

    @property
    def penalized(self) -> tuple[tuple[slice, bool], ...]:
        """Runs of `flat_params` and whether penalties reach them: weights yes, biases and gamma and beta no."""
        return tuple((each.run, each.penalized) for each in self._parameter_runs)

    # ------------------------------------------------------------------------------------------------- what it keeps

    @property
    def params(self) -> Variables:
        """Live views of `flat_params` by name; assigning a mapping of all names to arrays copies them in."""
        return self._params

    @params.setter
    def params(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        self._params.assign(arrays)

    @property
    def state(self) -> Variables:
        """Live views of `flat_state` by name; assigning a mapping of all names to arrays copies them in."""
        return self._state

    @state.setter
    def state(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        self._state.assign(arrays)

    @property
    def gradients(self) -> Variables:
        """Live views of `flat_gradients` by the parameters' names; assigning copies in."""
        if self._gradients is None:
            self._gradients = Variables("gradient", flat_views(self._param_buffers, self.flat_gradients))
        return self._gradients

    @gradients.setter
    def gradients(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        self.gradients.assign(arrays)

    @property
    def flat_params(self) -> Array:
        """All parameters in one vector; assigning copies into it."""
        return self._flat_params

    @flat_params.setter
    def flat_params(self, values: npt.ArrayLike) -> None:
        _copy_in("flat_params", values, self._flat_params)

    @property
    def flat_state(self) -> npt.NDArray[np.uint8]:
        """All state as bytes; a copy of it is a snapshot, and assigning one copies it back."""
        return self._flat_state

    @flat_state.setter
    def flat_state(self, values: npt.ArrayLike) -> None:
        _copy_in("flat_state", values, self._flat_state)

    @property
    def flat_gradients(self) -> Array:
        """Gradients of all parameters in one vector, in the order of `flat_params`; assigning copies into it."""
        if self._flat_gradients is None:
            self._flat_gradients = np.zeros_like(self.flat_params)
        return self._flat_gradients

    @flat_gradients.setter
    def flat_gradients(self, values: npt.ArrayLike) -> None:
        _copy_in("flat_gradients", values, self.flat_gradients)

    # ------------------------------------------------------------------------------------------------- copies of it

    def resting(self) -> AbstractContextManager[None]:
        """Return a context manager: within the block no other thread runs this model."""
        return self._plans.resting()

    def __getstate__(self) -> dict[str, Any]:
        with self.resting():
            return {
                "version": VERSION,
                "graph": self._graph,
                "settings": self.settings,
                "params": copies(self._params),
                "state": copies(self._state),
                "gradients": None if self._flat_gradients is None else copies(self.gradients),
                "names": dict(self._names),
                "own": {name: each for name, each in vars(self).items() if name not in self._annotated},
            }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = version_checked(state, "model", "model.save(path), Model.load(path)")
        vars(self).update(state["own"])  # of a user's subclass
        self._names = state["names"]
        self._build(state["graph"], **state["settings"])
        self.params, self.state = state["params"], state["state"]
        if state["gradients"] is not None:
            self.gradients = state["gradients"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        state = self.__getstate__()
        arrays = {"params", "state", "gradients"}  # copies already
        for name in state.keys() - arrays:
            state[name] = copy.deepcopy(state[name], memo)
        copied.__setstate__(state)
        copied._names = {**self._names, **copied._names}  # the nodes that the user has are those of the copy, too
        return copied

    def __copy__(self) -> Any:
        raise TypeError(
            "a shallow copy of a model would share its arrays: write copy.deepcopy(model) for a model of its own"
        )


def _copy_in(label: str, values: npt.ArrayLike, target: Array) -> None:
    if values is not target:  # as after `model.flat_params *= 2`
        target[...] = checked_values(label, values, target)
