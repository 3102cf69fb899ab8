"""Model: a graph with its parameters and state, and the plans that run it."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.compile.derived import DerivedArrays
from minitrain.compile.fusions import fuse as fuse_graph
from minitrain.compile.fusions import fuse_for_inference, fuse_for_training
from minitrain.compile.plan import Plan, new_arena
from minitrain.compile.schedule import schedule_inference, schedule_training
from minitrain.graph.graph import Graph, trace
from minitrain.layer import Layer, Node, Shape
from minitrain.model import file as model_file
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
MOST_PLANS = 32  # of different batch sizes, kept bound at a time


class Model:
    """A net: layers in a graph, parameters, state.

    Parameters
    ----------
    inputs : Input or sequence of Input
    outputs : Node
        What the model returns; everything that leads to it belongs to the model.
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
    One model serves any batch size. All its plans run in one arena, one at a time: a model may be called from several
    threads, which then take turns.

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
        outputs: Node,
        *,
        seed: int = 0,
        dtype: npt.DTypeLike = "float32",
        fuse: bool = True,
    ) -> None:
        nodes = [inputs] if isinstance(inputs, Node) else list(inputs)
        if not isinstance(outputs, Node):
            raise TypeError(f"outputs: expected one Node, got {type(outputs).__name__}")
        self._build(trace(nodes, outputs), seed, dtype, fuse)

    @classmethod
    def from_graph(cls, graph: Graph, *, seed: int = 0, dtype: npt.DTypeLike = "float32", fuse: bool = True) -> Model:
        """Make a model from a graph that has its names already."""
        model = cls.__new__(cls)
        model._build(graph, seed, dtype, fuse)
        return model

    def _build(self, graph: Graph, seed: int, dtype: npt.DTypeLike, fuse: bool) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in FLOATS:
            raise ValueError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.seed, self.fuse, self.graph = expect_integer("seed", seed, 0), bool(fuse), graph
        self._output_shape = graph.shapes(2)[graph.output][1:]
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
        self._plans: dict[tuple[int, bool], Plan] = {}
        self._arena = new_arena(0)
        self._lock = threading.RLock()
        _models.add(self)

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """Shapes of the inputs by name, without the batch axis."""
        return dict(self.graph.inputs)

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch axis."""
        return self._output_shape

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
        return self._plan(batch, training=True)

    def inference_plan(self, batch: int) -> Plan:
        """Return the plan that runs the trained net on `batch` samples at a time."""
        return self._plan(batch, training=False)

    def _plan(self, batch: int, training: bool) -> Plan:
        plan = self._plans.get((batch, training))
        if plan is not None:
            return plan
        with self._lock:
            plan = self._plans.get((batch, training))
            if plan is None:
                gradients = self.gradients if training else None
                graph = self._training_graph if training else self._inference_graph
                plan = Plan(
                    graph, batch, self.dtype, self.params, self.state, gradients,
                    derived=None if training else self._derived_arrays(), arena=self._provide_arena,
                )  # fmt: skip
                if len(self._plans) >= MOST_PLANS:
                    del self._plans[next(iter(self._plans))]
                self._plans[batch, training] = plan
            return plan

    def _derived_arrays(self) -> DerivedArrays:
        if self._derived is None:
            self._derived = DerivedArrays(self._inference_graph, self.dtype, self.params, self.state)
        return self._derived

    def _provide_arena(self, size: int) -> npt.NDArray[np.uint8]:
        """Grow the one arena; plans that are bound to the old one are made again when they are next asked for."""
        if size > self._arena.size:
            self._plans.clear()
            self._arena = new_arena(size)
        return self._arena

    def predict(self, x: Array | Sequence[Array], batch_size: int = 256) -> Array:
        """Return the outputs for all samples of `x`, computed with the running statistics and without dropout.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        batch_size : int
            Samples computed at a time: bounds the memory, does not change the results beyond rounding.

        Returns
        -------
        array of shape (samples, *output shape), of the model's dtype

        Raises
        ------
        ValueError
            A shape that does not fit.
        """
        batch_size = expect_integer("batch_size", batch_size, 1)
        arrays = self.check_inputs(x)
        samples = len(arrays[0])
        result = np.empty((samples, *self._output_shape), self.dtype)
        for start in range(0, samples, batch_size):
            part = arrays if samples <= batch_size else [each[start : start + batch_size] for each in arrays]
            with self._lock:
                plan = self.inference_plan(len(part[0]))
                plan.load(part)
                plan.forward()
                result[start : start + batch_size] = plan.output
        return result

    def check_inputs(self, x: Array | Sequence[Array]) -> list[Array]:
        """Return the inputs as a list of arrays of one length; raises ValueError where shapes do not fit."""
        shapes = self.graph.inputs
        if len(shapes) == 1 and isinstance(x, np.ndarray) and x.ndim and x.dtype.kind in "fiub":  # the usual case
            (shape,) = shapes.values()
            if x.shape[1:] == shape:
                return [x]
        arrays = [np.asarray(each) for each in (x if isinstance(x, (list, tuple)) else (x,))]
        if len(arrays) != len(shapes):
            raise ValueError(f"x: expected {len(shapes)} arrays ({', '.join(shapes)}), got {len(arrays)}")
        for name, each in zip(shapes, arrays, strict=True):
            shape = shapes[name]
            if each.shape[1:] == shape and each.ndim and len(each) == len(arrays[0]) and each.dtype.kind in "fiub":
                continue
            label = "x" if len(shapes) == 1 else f"x ({name})"
            if each.shape[1:] != shape or each.ndim == 0:
                raise ValueError(f"{label}: expected shape (samples, {', '.join(map(str, shape))}), got {each.shape}")
            if len(each) != len(arrays[0]):
                raise ValueError(f"{label}: expected {len(arrays[0])} samples like the first input, got {len(each)}")
            raise TypeError(f"{label}: expected numbers, got dtype {each.dtype}")
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


def _after_fork_in_child() -> None:
    """Take the models from the threads that were computing with them: they did not come along."""
    for model in _models:
        model._lock = threading.RLock()


if sys.platform != "win32":  # where no process forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
