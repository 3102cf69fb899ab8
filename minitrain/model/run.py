"""A model bound to memory of its own for batches of one shape: forward, backward, and what they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan, new_arena
from minitrain.compile.poison import is_poisoned, poison
from minitrain.graph.graph import SINGLE, Graph
from minitrain.layer import FreeShape, Shape
from minitrain.model.finite_state import finite_checks, warn_of_state
from minitrain.model.plans import Arena, Plans, Wanted
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer

__all__ = ["Run", "Runnable"]


class Runnable(Protocol):
    """What running needs of a model."""

    @property
    def graph(self) -> Graph: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def state(self) -> Any: ...
    @property
    def flat_state(self) -> npt.NDArray[np.uint8]: ...
    @property
    def _plans(self) -> Plans: ...
    def _make_plan(self, wanted: Wanted, arena: Arena) -> Plan: ...
    def check_inputs(self, x: Array | Sequence[Array]) -> list[Array]: ...


class Run:
    """A model bound to memory for batches of one shape; made by `Model.bind`.

    What it returns are **read-only views** of its memory. They stay as they are until the next call of this run,
    whatever else the model does; copy what is to be kept longer.

    Parameters
    ----------
    model : Model
    batch : int, shape, mapping or arrays
    training, input_gradients, keep : bool
        See `Model.bind`.

    Attributes
    ----------
    shapes : mapping of name to shape
        Of the inputs, batch axis first.
    training, input_gradients, keep : bool
    """

    def __init__(
        self, model: Runnable, batch: Any, training: bool = True, input_gradients: bool = False, keep: bool = False
    ) -> None:
        self.training = expect_boolean("training", training)
        self.input_gradients = expect_boolean("input_gradients", input_gradients)
        self.keep = expect_boolean("keep", keep)
        if input_gradients and not training:
            raise ValueError(
                "input_gradients: expected False with training=False, which has no backward pass; "
                "model.input_gradient(x) differentiates by the running statistics and without dropout"
            )
        self.shapes = _bound_shapes(model, batch)
        self._model = model
        with model._plans.turn(training=False):  # nothing runs yet
            self._bind()

    def _bind(self) -> None:
        """Make the plan, and the views of it that are returned."""
        wanted = Wanted(tuple(self.shapes.values()), self.training, self.input_gradients, keep=self.keep)
        self._version = self._model._plans.version
        self._plan = self._model._make_plan(wanted, new_arena)
        self._outputs = self._named({name: _lent(each) for name, each in self._plan.outputs.items()})
        self._input_gradients: Any = None
        if self.input_gradients:
            lent: dict[str, Array | None] = dict.fromkeys(self.shapes)
            lent |= {name: _lent(each) for name, each in self._plan.dinputs.items()}
            self._input_gradients = next(iter(lent.values())) if len(lent) == 1 else lent
        self._checks = finite_checks(self._model) if self.training else ()
        self._went: str | None = None  # the pass that ran last

    def _named(self, arrays: Mapping[str, Array]) -> Any:
        return arrays[SINGLE] if self._model.graph.is_single else dict(arrays)

    @property
    def plan(self) -> Plan:
        """The plan itself, whose calls check nothing: to look at, and to measure its time."""
        return self._plan

    @property
    def batch(self) -> int:
        """Samples in every call."""
        return self._plan.batch

    def forward(self, x: Array | Sequence[Array]) -> Any:
        """Run the net on a batch; running statistics move where this run is for training.

        Parameters
        ----------
        x : array of the bound shape, or a sequence of arrays for several inputs

        Returns
        -------
        array, or dictionary of arrays by the names of the outputs where they have names
            Read-only views, valid until the next call.

        Raises
        ------
        ValueError, TypeError
            A batch that does not fit.

        Warns
        -----
        RuntimeWarning
            Running statistics that overflowed, by name.
        """
        with self._model._plans.turn(self.training):
            if self._version != self._model._plans.version:
                self._bind()
            self._went = None  # should an exception come in between
            self._plan.load(self._model.check_inputs(x))
            self._plan.forward()
            if not all(is_finite() for is_finite in self._checks):
                warn_of_state(self._model)
            for each in self._plan.output_gradients.values():
                poison(each)
            self._went = "forward"
        return self._outputs

    @property
    def output_gradient(self) -> Any:
        """Where `backward` reads the gradient of the output: a writable array, for losses that write in place.

        `loss(y, targets, run.output_gradient)` after `forward`, then `run.backward()`. A dictionary of arrays where the
        outputs have names.
        """
        self._expect_forward()
        return self._named(self._plan.output_gradients)

    def backward(self, dy: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None) -> Any:
        """Write the parameters' gradients into `model.gradients`: once after each `forward`, more often with `keep`.

        Parameters must not change between `forward` and `backward`.

        Parameters
        ----------
        dy : array of the output's shape, or mapping of the names of outputs to arrays
            The gradient of the loss with respect to the outputs. Those that a mapping does not name have none. Not
            needed where it was written into `output_gradient`.

        Returns
        -------
        array or None
            The gradient with respect to the input, where the model was bound with `input_gradients=True`: a read-only
            view, valid until the next call. For several inputs a dictionary by their names, None for integers.

        Raises
        ------
        RuntimeError
            Without a `forward` before it, or bound for inference.
        ValueError, TypeError
            A gradient that does not fit, or is not there.
        """
        with self._model._plans.turn(True):
            self._expect_forward()
            if dy is not None:
                self._give(dy)
            for name, each in self._plan.output_gradients.items():
                if is_poisoned(each):
                    raise ValueError(
                        f"{_label('output_gradient', name)}: not written, at least in part; pass dy, or write all of "
                        "run.output_gradient before backward()"
                    )
            self._plan.backward()
            self._went = "backward"
        return self._input_gradients

    def reset(self) -> None:
        """Set what layers carry from call to call to zeros: for a new sequence."""
        with self._model._plans.turn(self.training):
            self._plan.reset()

    def _expect_forward(self) -> None:
        if not self.training:
            raise RuntimeError(
                "backward: bound for inference; bind the model with training=True, or take model.input_gradient(x), "
                "which differentiates by the running statistics and without dropout"
            )
        if self._version != self._model._plans.version:
            raise RuntimeError("backward: the model was changed since forward; call forward again")
        if self._went is None:
            raise RuntimeError("backward: call forward first")
        if self._went == "backward" and not self.keep:
            raise RuntimeError(
                "backward: ran already for the last forward, whose values are gone; call forward again, or bind the "
                "model with keep=True"
            )

    def _give(self, dy: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> None:
        targets = self._plan.output_gradients
        given = _by_output(dy, self._model.graph)
        arrays = {}
        for name, each in given.items():
            if each is None:
                continue
            label, array = _label("dy", name), np.asarray(each)
            if name not in targets:
                known = ", ".join(map(repr, targets)) or "none"
                raise ValueError(f"{label}: expected names of outputs that have a gradient ({known})")
            if array.dtype.kind != "f":
                raise TypeError(f"{label}: expected an array of floats, got dtype {array.dtype}")
            if array.shape != targets[name].shape:
                raise ValueError(f"{label}: expected shape {targets[name].shape} like the output, got {array.shape}")
            arrays[name] = array
        if not arrays:
            raise ValueError("dy: expected the gradient of one output at least, got none")
        for name, target in targets.items():
            target[...] = arrays.get(name, 0)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Run is bound to the memory of this process: copy or save the model, and bind the copy")

    def __repr__(self) -> str:
        purpose = "training" if self.training else "inference"
        return f"<Run for {purpose} on {', '.join(f'{name} {shape}' for name, shape in self.shapes.items())}>"


def _lent(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _label(argument: str, output: str) -> str:
    return argument if output == SINGLE else f"{argument} ({output})"


def _by_output(dy: Any, graph: Graph) -> Mapping[str, Any]:
    """The gradients by the names of the outputs."""
    if isinstance(dy, Mapping) == graph.is_single:
        expected = "an array" if graph.is_single else f"a mapping of {', '.join(map(repr, graph.outputs))} to arrays"
        raise TypeError(f"dy: expected {expected}, got {type(dy).__name__}")
    return dy if isinstance(dy, Mapping) else {SINGLE: dy}


def _bound_shapes(model: Runnable, batch: Any) -> dict[str, Shape]:
    """Return the shapes of all inputs, batch axis first, for what `Model.bind` takes."""
    inputs = {name: spec.shape for name, spec in model.graph.inputs.items()}
    if isinstance(batch, (int, np.integer)) and not isinstance(batch, bool):
        samples = expect_integer("batch", batch, 1)
        given: Mapping[str, Any] = {name: (samples, *shape) for name, shape in inputs.items()}
    elif isinstance(batch, Mapping):
        if set(batch) != set(inputs):
            raise ValueError(f"batch: expected shapes of the inputs {', '.join(inputs)}, got {', '.join(batch)}")
        given = {name: np.shape(batch[name]) if isinstance(batch[name], np.ndarray) else batch[name] for name in inputs}
    elif isinstance(batch, (tuple, list)) and batch and all(isinstance(each, (int, np.integer)) for each in batch):
        if len(inputs) != 1:
            raise ValueError(f"batch: expected a mapping of the inputs {', '.join(inputs)} to shapes, got one shape")
        given = dict.fromkeys(inputs, tuple(batch))
    elif isinstance(batch, (np.ndarray, tuple, list)):
        given = {name: each.shape for name, each in zip(inputs, model.check_inputs(batch), strict=True)}
    else:
        raise TypeError(f"batch: expected a number of samples, a shape or a batch, got {type(batch).__name__}")
    shapes = {name: _checked_shape(name, given[name], shape) for name, shape in inputs.items()}
    samples = next(iter(shapes.values()))[0]
    for name, shape in shapes.items():
        if shape[0] != samples:
            raise ValueError(f"batch ({name}): expected {samples} samples like the first input, got {shape[0]}")
    return shapes


def _checked_shape(name: str, given: Sequence[int | None], shape: FreeShape) -> Shape:
    if None in given:
        raise ValueError(f"batch ({name}): expected the sizes of its free axes too, as in bind((N, ...)), got {given}")
    sizes = tuple(expect_integer(f"batch ({name})", size, 1) for size in given)
    fits = len(sizes) == len(shape) + 1 and all(
        wanted is None or size == wanted for size, wanted in zip(sizes[1:], shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"batch ({name}): expected shape (samples, {wanted}), got {sizes}")
    return sizes
