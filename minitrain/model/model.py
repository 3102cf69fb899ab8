"""Model: a graph with its parameters and state, and the plans that run it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.compile.derived import DerivedArrays
from minitrain.compile.fusions import fuse as fuse_graph
from minitrain.compile.fusions import fuse_for_inference, fuse_for_training
from minitrain.compile.plan import Plan
from minitrain.compile.schedule import schedule_inference, schedule_training
from minitrain.graph.graph import SINGLE, Graph, trace
from minitrain.layer import FreeShape, Layer, Node, Shape, Spec
from minitrain.model import file as model_file
from minitrain.model.plans import Arena, Held, Plans, Wanted
from minitrain.model.summary import summarize
from minitrain.model.variables import (
    Variables,
    declared_variables,
    first_value,
    flat_views,
    parameter_runs,
    state_views,
)
from minitrain.optimizers import ParameterRuns
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_integer

__all__ = ["Model"]

_models: weakref.WeakSet[Model] = weakref.WeakSet()  # those of this process
EXACT = {"float32": 2**24, "float64": 2**53}  # whole numbers up to here are floats of this type


class Model:
    """A net: layers in a graph, parameters, state.

    Parameters
    ----------
    inputs : Input or sequence of Input
    outputs : Node, or mapping of name to Node
        What the model returns: one array, or a dictionary of arrays by these names. Everything that leads to it
        belongs to the model.
    seed : int
        Parameters start from this seed and their own names alone: the same seed gives the same bits.
    dtype : "float32" or "float64"
        Of parameters, activations and gradients.
    fuse : bool
        Whether neighbouring layers may be run as one. Results agree to rounding, names stay the same.

    Attributes
    ----------
    params, state : mapping of name to array
        Live views such as `params["conv1.weight"]`; write into them to set them.
    gradients : mapping of name to array
        What the last backward pass of a training plan wrote.
    flat_params, flat_gradients : array
        All parameters and all gradients in one vector each.
    flat_state : array of uint8
        All state as bytes; a copy of it is a snapshot.

    Raises
    ------
    ValueError
        Inputs that do not lead to the output, two layers of one name, an unknown dtype.

    Notes
    -----
    One model serves any batch size, and any size of free axes. All its plans run in one arena, one at a time: a model
    may be called from several threads, which then take turns.

    Examples
    --------
    >>> from minitrain import Input, Model, layers
    >>> x = Input((3,))
    >>> model = Model(x, layers.Dense(2, name="head")(x), seed=0)
    >>> model.params["head.weight"].shape
    (2, 3)
    """

    def __init__(
        self,
        inputs: Node | Sequence[Node],
        outputs: Node | Mapping[str, Node],
        *,
        seed: int = 0,
        dtype: npt.DTypeLike = "float32",
        fuse: bool = True,
    ) -> None:
        nodes = [inputs] if isinstance(inputs, Node) else list(inputs)
        graph, self._names = trace(nodes, _named_outputs(outputs))
        self._build(graph, seed, dtype, fuse)

    @classmethod
    def from_graph(cls, graph: Graph, *, seed: int = 0, dtype: npt.DTypeLike = "float32", fuse: bool = True) -> Model:
        """Make a model from a graph that has its names already."""
        model = cls.__new__(cls)
        model._names = {}
        model._build(graph, seed, dtype, fuse)
        return model

    def _build(self, graph: Graph, seed: int, dtype: npt.DTypeLike, fuse: bool) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in FLOATS:
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.seed, self.fuse, self.graph = expect_integer("seed", seed, 0), bool(fuse), graph
        shapes = graph.free_shapes()
        self._output_shapes = {name: shapes[value] for name, value in graph.outputs.items()}
        fused = fuse_graph(graph) if fuse else graph
        self._training_graph = fuse_for_training(fused, self.dtype) if fuse else graph
        self._inference_graph = fuse_for_inference(fused) if fuse else graph
        self._param_buffers, state = declared_variables(graph)
        size = sum(int(np.prod(buffer.shape)) for buffer in self._param_buffers.values())
        self.flat_params = np.zeros(size, self.dtype)
        self._parameter_runs = parameter_runs(self._param_buffers)
        self.params = Variables("parameter", flat_views(self._param_buffers, self.flat_params))
        self.flat_state, views = state_views(state, self.dtype)
        self.state = Variables("state", views)
        for variables, buffers in ((self.params, self._param_buffers), (self.state, state)):
            for name, buffer in buffers.items():
                variables[name] = first_value(name, buffer, self.seed)
        self._flat_gradients: Array | None = None
        self._gradients: Variables | None = None
        self._derived: DerivedArrays | None = None
        self._plans = Plans(self._make_plan)
        _models.add(self)

    # ------------------------------------------------------------------------------------------------- what it is

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
        """Where each parameter lies in `flat_params`, and whether penalties reach it; the same object at each call."""
        return self._parameter_runs

    @property
    def penalized(self) -> tuple[tuple[slice, bool], ...]:
        """Runs of `flat_params` and whether penalties reach them: weights yes, biases and gamma and beta no."""
        return tuple((each.run, each.penalized) for each in self._parameter_runs)

    @property
    def flat_gradients(self) -> Array:
        """Gradients of all parameters in one vector, in the order of `flat_params`."""
        if self._flat_gradients is None:
            self._flat_gradients = np.zeros_like(self.flat_params)
        return self._flat_gradients

    @property
    def gradients(self) -> Variables:
        """Live views of `flat_gradients` by the parameters' names."""
        if self._gradients is None:
            self._gradients = Variables("gradient", flat_views(self._param_buffers, self.flat_gradients))
        return self._gradients

    @property
    def settings(self) -> dict[str, Any]:
        """What makes a model of its graph, beside parameters and state: the other arguments of `from_graph`."""
        return {"dtype": str(self.dtype), "seed": self.seed, "fuse": self.fuse}

    def count_parameters(self) -> int:
        """Return the number of learned values."""
        return int(self.flat_params.size)

    def summary(self, print_fn: Callable[[str], object] = print, *, batch_size: int = 32) -> None:
        """Print the layers with output shapes, operations and parameters, and the memory that a batch takes.

        Where a layer has several algorithms to choose from, that of the forward pass of such a batch is named.
        """
        arenas = {
            f"for training batches of {batch_size}": schedule_training(self._training_graph, batch_size, self.dtype),
            f"for inference batches of {batch_size}": schedule_inference(self._inference_graph, batch_size, self.dtype),
        }
        sizes = {purpose: schedule.arena_size() for purpose, schedule in arenas.items()}
        print_fn(summarize(self.graph, self.dtype, batch_size, sizes))

    def __repr__(self) -> str:
        return f"<Model {len(self.graph.nodes)} layers, {self.count_parameters():,} parameters, {self.dtype}>"

    # ------------------------------------------------------------------------------------------------- running it

    def training_plan(self, batch: int) -> Plan:
        """Return the plan that trains on `batch` samples at a time; its gradients are the model's."""
        return self._plans.get(Wanted(self._shapes_of(batch), training=True))

    def inference_plan(self, batch: int) -> Plan:
        """Return the plan that runs the trained net on `batch` samples at a time."""
        return self._plans.get(Wanted(self._shapes_of(batch)))

    def _shapes_of(self, batch: int) -> tuple[Shape, ...]:
        free = [name for name, spec in self.graph.inputs.items() if None in spec.shape]
        if free:
            raise ValueError(f"{free[0]}: expected the sizes of its free axes, got the number of samples alone")
        return tuple(self.graph.input_shapes(batch).values())

    def held(
        self,
        shapes: tuple[Shape, ...],
        training: bool = False,
        *,
        input_gradients: bool = False,
        losses: tuple[str, ...] | None = None,
    ) -> Held:
        """Return a context manager that gives a plan for inputs of these shapes, and its memory within the block.

        Other threads wait. Within the block the same thread may run the model for inference; that has memory of its
        own.
        """
        return self._plans.hold(Wanted(shapes, training, input_gradients, losses))

    def _make_plan(self, wanted: Wanted, arena: Arena) -> Plan:
        training = wanted.training
        return Plan(
            self._training_graph if training else self._inference_graph,
            dict(zip(self.graph.inputs, wanted.shapes, strict=True)), self.dtype, self.params, self.state,
            self.gradients if training else None, derived=None if training else self._derived_arrays(), arena=arena,
            input_gradients=wanted.input_gradients, losses=wanted.losses,
        )  # fmt: skip

    def _derived_arrays(self) -> DerivedArrays:
        if self._derived is None:
            self._derived = DerivedArrays(self._inference_graph, self.dtype, self.params, self.state)
        return self._derived

    def predict(self, x: Array | Sequence[Array], batch_size: int = 256) -> Any:
        """Return the outputs for all samples of `x`, computed with the running statistics and without dropout.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        batch_size : int
            Samples computed at a time: bounds the memory, does not change the results beyond rounding.

        Returns
        -------
        array of shape (samples, *output shape), of the model's dtype
            A dictionary of arrays by the names of the outputs, where they have names.

        Raises
        ------
        ValueError
            A shape that does not fit.
        """
        batch_size = expect_integer("batch_size", batch_size, 1)
        arrays = self.check_inputs(x)
        samples = len(arrays[0])
        results: dict[str, Array] = {}
        for start in range(0, max(samples, 1), batch_size):
            part = arrays if samples <= batch_size else [each[start : start + batch_size] for each in arrays]
            if not samples:  # nothing to compute: only the shapes are wanted
                part = [np.zeros((1, *each.shape[1:]), each.dtype) for each in arrays]
            with self.held(tuple([each.shape for each in part])) as plan:
                plan.load(part)
                plan.forward()
                for name, output in plan.outputs.items():
                    if name not in results:
                        results[name] = np.empty((samples, *output.shape[1:]), output.dtype)
                    results[name][start : start + batch_size] = output[: samples - start]
        return results[SINGLE] if self.graph.is_single else results

    def check_inputs(self, x: Array | Sequence[Array]) -> list[Array]:
        """Return the inputs as a list of arrays of one length; raises ValueError where shapes do not fit."""
        inputs = self.graph.inputs
        if len(inputs) == 1 and isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f":  # the usual case
            (spec,) = inputs.values()
            if x.shape[1:] == spec.shape and spec.dtype is None:
                return [x]
        given = x if isinstance(x, (list, tuple)) else (x,)
        if len(inputs) == 1 and (len(given) != 1 or not isinstance(given[0], np.ndarray)):
            given = (x,)  # a list of samples
        if len(given) != len(inputs):
            raise ValueError(f"x: expected {len(inputs)} arrays ({', '.join(inputs)}), got {len(given)}")
        arrays = [
            _checked_input("x" if len(inputs) == 1 else f"x ({name})", each, spec, self.dtype)
            for (name, spec), each in zip(inputs.items(), given, strict=True)
        ]
        for name, each in zip(inputs, arrays, strict=True):
            if len(each) != len(arrays[0]):
                raise ValueError(f"x ({name}): expected {len(arrays[0])} samples like the first input, got {len(each)}")
        return arrays

    # ------------------------------------------------------------------------------------------------- keeping it

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write graph, parameters and state as a safetensors file, whole or not at all.

        Layers that are not minitrain's are written, too; whoever loads the file passes their classes.

        Raises
        ------
        TypeError, ValueError
            Layers that could not be made again from what is written: fields that are neither numbers, strings, layers
            nor initializers of minitrain, or the name of another class. Names the node; nothing is written.
        ImportError
            safetensors is not installed.
        OSError
            The file cannot be written; what was there before is kept.
        """
        model_file.write(path, self.graph, {**self.params, **self.state}, self.settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str], layers: Iterable[type[Layer]] = ()) -> Model:
        """Read a model from a file that `save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
        layers : iterable of classes
            Layers of the model that are not minitrain's, each under a name of its own: `layers=[MyLayer]`.

        Raises
        ------
        ImportError
            safetensors is not installed.
        ValueError
            Not such a file, an unknown layer, arrays that do not fit the graph.
        """
        graph, arrays, settings = model_file.read(path, layers)
        model = cls.from_graph(graph, **settings)
        model_file.fill({**model.params, **model.state}, arrays, path)
        return model


def _named_outputs(outputs: Node | Mapping[str, Node]) -> dict[str, Node]:
    if isinstance(outputs, Node):
        return {SINGLE: outputs}
    if not isinstance(outputs, Mapping):
        raise TypeError(f"outputs: expected one Node or a mapping of name to Node, got {type(outputs).__name__}")
    for name, node in outputs.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"outputs: expected names that are not empty, got {name!r}")
        if not isinstance(node, Node):
            raise TypeError(f"outputs: expected a Node for {name!r}, got {type(node).__name__}")
    if not outputs:
        raise ValueError("outputs: expected one or more, got none")
    return dict(outputs)


def _checked_input(label: str, given: Any, spec: Spec, dtype: np.dtype) -> Array:
    """Return an input as an array of a kind and a shape that fit."""
    array = np.asarray(given)
    expected = "numbers" if spec.dtype is None else f"an array of {spec.dtype}"
    kinds = "fiub" if spec.dtype is None else {"i": "iu", "u": "iu", "b": "b"}[np.dtype(spec.dtype).kind]
    if array.dtype.kind not in kinds:
        raise TypeError(f"{label}: expected {expected}, got {_kind(given, array)}")
    sizes = array.shape[1:]
    fits = array.ndim == len(spec.shape) + 1 and all(
        size == wanted or (wanted is None and size) for size, wanted in zip(sizes, spec.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise ValueError(f"{label}: expected shape (samples, {wanted}), got {array.shape}")
    target = dtype if spec.dtype is None else np.dtype(spec.dtype)
    if array.dtype.kind in "iu" and array.size and array.itemsize >= target.itemsize and array.dtype != target:
        low, high = int(array.min()), int(array.max())
        limit = EXACT[str(target)] if spec.dtype is None else int(np.iinfo(target).max)
        least = -limit if spec.dtype is None else int(np.iinfo(target).min)
        if low < least or high > limit:
            raise ValueError(
                f"{label}: expected whole numbers from {least} to {limit}, which {target} holds exactly, got {low} to "
                f"{high}; for labels and tokens make it Input(shape, dtype='int64')"
            )
    return array


def _kind(given: Any, array: Array) -> str:
    """What came, for a message."""
    kind = type(given).__name__
    return f"dtype {array.dtype}" if isinstance(given, np.ndarray) else f"{kind} (as an array: dtype {array.dtype})"


def _after_fork_in_child() -> None:
    """Take the models from the threads that were computing with them: they did not come along."""
    for model in list(_models):
        model._plans.after_fork()


if sys.platform != "win32":  # where no process forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
