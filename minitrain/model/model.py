"""Model: a graph with its parameters and state, and the plans that run it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.compile.derived import DerivedArrays
from minitrain.compile.fusions import freeze, fuse_for_inference, fuse_for_training
from minitrain.compile.fusions import fuse as fuse_graph
from minitrain.compile.plan import Plan
from minitrain.compile.schedule import schedule_inference, schedule_training
from minitrain.graph.graph import SINGLE, Graph, trace
from minitrain.layer import FreeShape, Layer, Node, Shape
from minitrain.model import file as model_file
from minitrain.model.freezing import frozen_nodes, selected
from minitrain.model.input_gradient import differentiating_plan
from minitrain.model.inputs import check_inputs
from minitrain.model.like import known_names, refuse_double_names, refuse_trained, take_over
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
from minitrain.model.ways import Ways
from minitrain.optimizers import ParameterRuns
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_integer

__all__ = ["Model"]

_models: weakref.WeakSet[Model] = weakref.WeakSet()  # those of this process


class Model(Ways):
    """A net: layers in a graph, parameters, state.

    Parameters
    ----------
    inputs : Input or sequence of Input
    outputs : Node, or mapping of name to Node
        What the model returns: one array, or a dictionary of arrays by these names. Everything that leads to it
        belongs to the model.
    seed : int
        Parameters start from this seed and their own names alone: the same seed gives the same bits. 0 by default.
    dtype : "float32" or "float64"
        Of parameters, activations and gradients. "float32" by default.
    fuse : bool
        Whether neighbouring layers may be run as one. Results agree to rounding, names stay the same. True by default.
    like : Model, optional
        A model to start from: parameters and state are copied from it, and the settings above are its own by default.
        Layers that it has keep their names and values. Layers that were built anew start from those of the same name;
        what it does not have starts from the seed.

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
        Inputs that do not lead to the output, two layers of one name, an unknown dtype. Nodes of another model that
        was trained, without `like`: this one would not have its weights. Variables of `like` that have another shape
        here, or none that fits.

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
        seed: int | None = None,
        dtype: npt.DTypeLike | None = None,
        fuse: bool | None = None,
        like: Model | None = None,
    ) -> None:
        if like is not None and not isinstance(like, Model):
            raise TypeError(f"like: expected a Model, got {type(like).__name__}")
        nodes, named = [inputs] if isinstance(inputs, Node) else list(inputs), _named_outputs(outputs)
        graph, self._names = trace(nodes, named, None if like is None else known_names(like, named.values()))
        if like is None:
            refuse_trained(self._names, _models)
        refuse_double_names(graph)
        settings: dict[str, Any] = {"seed": 0, "dtype": "float32", "fuse": True} if like is None else like.settings
        given = {"seed": seed, "dtype": dtype, "fuse": fuse}
        self._build(graph, **settings | {name: each for name, each in given.items() if each is not None})
        if like is not None:
            with like._plans.turn(training=False):
                take_over(graph, {**self.params, **self.state}, like)

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
        self._training_graph = self._rewritten_for_training()
        self._inference_graph = fuse_for_inference(fuse_graph(graph)) if fuse else graph
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

    # ------------------------------------------------------------------------------------------------- what it learns

    @property
    def frozen(self) -> dict[str, tuple[str, ...]]:
        """What training leaves as it is: names of nodes to "parameters", "statistics" or both."""
        return frozen_nodes(self.graph, self.graph.frozen)

    def freeze(self, *nodes: str, parameters: bool = True, statistics: bool = True) -> None:
        """Keep nodes as they are in training, for example those of a trained net under a new head.

        Gradients that nobody needs then are not computed. Optimizers leave frozen parameters alone, and what they
        keep of them. A file does not know what was frozen.

        Parameters
        ----------
        nodes : str
            Names or globs of nodes, "conv*". Nodes that share a layer share what is frozen of it.
        parameters : bool
            Whether to freeze their parameters: weights, gamma and beta.
        statistics : bool
            Whether to freeze their running statistics. A batch norm normalizes by these then, in training too, and its
            gradient is that of a fixed function: dx = gamma / sqrt(running_var + eps) dy.

        Raises
        ------
        TypeError, ValueError
            No name, or one that no node has; a layer whose statistics move and that has no frozen form.
        RuntimeError
            The model is in the middle of a call.
        """
        self._set_frozen(self.graph.frozen | selected(self.graph, nodes, parameters, statistics))

    def unfreeze(self, *nodes: str, parameters: bool = True, statistics: bool = True) -> None:
        """Undo `freeze` for these nodes, with the arguments of that."""
        self._set_frozen(self.graph.frozen - selected(self.graph, nodes, parameters, statistics))

    def _set_frozen(self, frozen: frozenset[str]) -> None:
        if frozen == self.graph.frozen:
            return
        self._plans.clear()
        before = self.graph
        self.graph = replace(before, frozen=frozen)
        try:
            self._training_graph = self._rewritten_for_training()
        except ValueError:
            self.graph = before
            raise
        for name in frozen:
            if name in self.params and self._flat_gradients is not None:
                self.gradients[name][...] = 0

    def _rewritten_for_training(self) -> Graph:
        """Return the graph that training plans run."""
        if not self.fuse:
            return freeze(self.graph)
        return fuse_for_training(freeze(fuse_graph(self.graph)), self.dtype)

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
        if wanted.differentiated:
            return differentiating_plan(self, wanted, arena)
        training = wanted.training
        shapes = dict(zip(self.graph.inputs, wanted.shapes, strict=True))
        self.graph.declare(shapes)  # what does not fit is said of the layers as the user wrote them, not of fused ones
        return Plan(
            self._training_graph if training else self._inference_graph, shapes, self.dtype, self.params, self.state,
            self.gradients if training else None, derived=None if training else self._derived_arrays(), arena=arena,
            share_memory=not wanted.keep, input_gradients=wanted.input_gradients, losses=wanted.losses,
        )  # fmt: skip

    def _derived_arrays(self) -> DerivedArrays:
        if self._derived is None:
            self._derived = DerivedArrays(self._inference_graph, self.dtype, self.params, self.state)
        return self._derived

    def predict(self, x: Array | Sequence[Array], batch_size: int = 256) -> Any:
        """Return the outputs for all samples of `x`, computed with the running statistics and without dropout.

        Parameters
        ----------
        x : array of shape (samples, *input shape)
            For several inputs a sequence of arrays, or a mapping of the inputs' names to arrays.
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

    def check_inputs(self, x: Any) -> list[Array]:
        """Return x as a list of arrays, one for each input.

        Parameters
        ----------
        x : array or list of samples; for several inputs a sequence of arrays, or a mapping of their names to arrays

        Raises
        ------
        TypeError, ValueError
            What does not fit, in words that say what to do.
        """
        return check_inputs(self.graph.inputs, x, self.dtype)

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


def _after_fork_in_child() -> None:
    """Take the models from the threads that were computing with them: they did not come along."""
    for model in list(_models):
        model._plans.after_fork()


if sys.platform != "win32":  # where no process forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
