"""Model: a graph with its parameters and state, and the plans that run it."""

from __future__ import annotations

import html
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.arrays.mapped import MappedPages
from minitrain.compile.derived import DerivedArrays
from minitrain.compile.fusions import fuse as fuse_graph
from minitrain.compile.fusions import fuse_for_inference
from minitrain.compile.plan import Plan
from minitrain.compile.schedule import schedule_inference, schedule_training
from minitrain.graph.graph import SINGLE, Graph, trace
from minitrain.layer import Layer, Node, Shape
from minitrain.model import file as model_file
from minitrain.model.freezing import Freezing
from minitrain.model.input_gradient import differentiating_plan
from minitrain.model.inputs import check_inputs
from minitrain.model.like import known_names, refuse_double_names, refuse_trained, take_over
from minitrain.model.plans import Arena, Held, Plans, Wanted
from minitrain.model.summary import Summary, summarize
from minitrain.model.ways import Ways
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer

__all__ = ["Model"]

SUMMARY_BATCH = 32  # samples that the memory and the algorithms of a summary are those of

_models: weakref.WeakSet[Model] = weakref.WeakSet()  # those of this process


class Model(Freezing, Ways, sealed=True):
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
    dtype, seed, fuse, graph
        What the model was made of.

    Raises
    ------
    ValueError
        Inputs that do not lead to the output, two layers of one name, an unknown dtype. Nodes of another model that
        was trained, without `like`: this one would not have its weights. Variables of `like` that have another shape
        here, or none that fits.

    Notes
    -----
    The arrays stay where they are. Assigning to `params`, `state`, `gradients` or one of the flat ones copies in, all
    or nothing, so that what was handed out before is live still. No other attribute can be assigned.

    `copy.deepcopy` and `pickle` make a model of its own with the same bits in parameters, state and gradients. What
    layers carry from call to call begins with zeros there.

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

    _inference_graph: Graph
    _derived: DerivedArrays | None
    _last_held: tuple[tuple[Shape, ...], Held] | None

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
        self._keep(graph, seed, dtype, fuse)
        self._training_graph = self._rewritten_for_training()
        self._inference_graph = fuse_for_inference(fuse_graph(graph)) if fuse else graph
        self._derived = None
        self._plans = Plans(self._make_plan)
        self._last_held = None
        _models.add(self)

    # ------------------------------------------------------------------------------------------------- what it is

    def count_parameters(self) -> int:
        """Return the number of learned values."""
        return int(self.flat_params.size)

    def summary(self, print_fn: Callable[[str], object] = print, *, batch_size: int = SUMMARY_BATCH) -> None:
        """Print the layers with output shapes, operations and parameters, and the memory that a batch takes.

        Where a layer has several algorithms to choose from, that of the forward pass of such a batch is named. A
        notebook shows the same as a table of the model itself, where it is the last line of a cell.
        """
        print_fn(str(self._summary(batch_size)))

    def _summary(self, batch_size: int) -> Summary:
        arenas = {
            f"for training batches of {batch_size}": schedule_training(self._training_graph, batch_size, self.dtype),
            f"for inference batches of {batch_size}": schedule_inference(self._inference_graph, batch_size, self.dtype),
        }
        sizes = {purpose: schedule.arena_size() for purpose, schedule in arenas.items()}
        return summarize(self.graph, self.dtype, batch_size, sizes)

    def __repr__(self) -> str:
        return f"<Model {len(self.graph.nodes)} layers, {self.count_parameters():,} parameters, {self.dtype}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the summary, or less where that needs the sizes of free axes."""
        try:
            return self._summary(SUMMARY_BATCH)._repr_html_()
        except ValueError:  # a display says what it can
            return f"<p>{html.escape(repr(self))}</p>"

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
        if training or input_gradients or losses is not None:
            return self._plans.hold(Wanted(shapes, training, input_gradients, losses))
        last = self._last_held
        if last is None or last[0] != shapes:  # whoever predicts again and again finds the plan at once
            last = self._last_held = shapes, self._plans.hold(Wanted(shapes))
        return last[1]

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
        pages = MappedPages(arrays if samples > batch_size else ())
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
            pages.read(batch_size)
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
