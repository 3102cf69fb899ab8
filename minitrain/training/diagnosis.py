"""What to say when a loss or a gradient is not finite: where it began, and what may help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minitrain.compile.fusions import freeze
from minitrain.compile.plan import Plan
from minitrain.graph.graph import GraphNode
from minitrain.layer import Shape, Tensors
from minitrain.layers import LAYERS
from minitrain.losses import LOSSES
from minitrain.model import Model
from minitrain.objective.objective import Objective, Term
from nbnorm.jit.arrays import Array

__all__ = ["Failure", "NonFiniteLossError", "explain"]

LARGE = 1e4  # Data above are worth scaling; below, a net that starts from small weights stays far from overflow.
GROWN = 1e4  # Parameters above have run away: those of trained nets are below 100.


class NonFiniteLossError(ArithmeticError):
    """A loss, gradient or running statistic is NaN or infinite. Parameters and state are as before that step."""


class Failure(NamedTuple):
    """A step that went wrong.

    Attributes
    ----------
    step : int
    losses : sequence of float
        What the objective returned: the total, then one of each name.
    inputs : sequence of array
        The batch, as it was given.
    targets : sequence of array
        Of each loss, as it computes with them.
    learning_rate : float
    """

    step: int
    losses: Sequence[float]
    inputs: Sequence[Array]
    targets: Sequence[Array]
    learning_rate: float


class Cause(NamedTuple):
    """What went wrong, in words, and what may help."""

    text: str
    advice: str


def explain(model: Model, objective: Objective, failure: Failure) -> str:
    """Return what went wrong in a step, from computing it once more, layer by layer, in memory of its own.

    The model's parameters and state have to be those before the step; they are left so. The first cause in the order of
    computation is named: a parameter, an input as the net gets it, a layer's output, targets and outputs that do not go
    with the loss, the gradient of a layer. Nothing is raised, whatever the layers and losses of users do.
    """
    loss = failure.losses[0]
    state = model.flat_state.copy()
    try:
        with np.errstate(all="ignore"):
            cause = _Search(model, objective, failure).cause()
    except Exception as error:  # the message about the loss is worth more than that about the search
        cause = Cause(f"the search for the cause failed ({type(error).__name__}: {error})", "")
    finally:
        model.flat_state[...] = state
    advice = f"; {cause.advice}" if cause.advice else ""
    what = f"step {failure.step}: the loss is {loss:g}{_broken(objective, failure)}"
    return f"{what}: {cause.text}; nothing was updated{advice}"


def _broken(objective: Objective, failure: Failure) -> str:
    pairs = zip(objective.names[1:], failure.losses[1:], strict=True)
    broken = ", ".join(f"{name} is {loss}" for name, loss in pairs if not math.isfinite(loss))
    return f" ({broken})" if broken else ""


class _Search:
    """Looks for the first thing that is not finite."""

    def __init__(self, model: Model, objective: Objective, failure: Failure) -> None:
        self.model = model
        self.objective = objective
        self.failure = failure
        self.inputs = dict(zip(model.graph.inputs, failure.inputs, strict=True))
        self.nodes = {node.name: node for node in model.graph.nodes}
        shapes: dict[str, Shape] = {name: each.shape for name, each in self.inputs.items()}
        self.declared = model.graph.declare(shapes)[0]
        self.owners = {name: node for node in reversed(model.graph.nodes) for name in self._variables(node)}

    def cause(self) -> Cause:
        """Return the first cause in the order of computation."""
        for look in (self._parameters, self._data, self._passes):
            for cause in look():
                return cause
        return Cause(
            "everything is finite when it is computed again",
            "look for a layer, a loss or an optimizer that draws random numbers of its own or keeps something between "
            "calls",
        )

    def _parameters(self) -> Iterator[Cause]:
        for name, value in self.model.params.items():
            if not np.isfinite(value).all():
                text = (
                    f"the parameter {name} is not finite, before this step already ({self._called(self.owners[name])})"
                )
                yield Cause(text, self._smaller_steps() if self.failure.step else "set or load finite values")

    def _data(self) -> Iterator[Cause]:
        """What is wrong with the inputs, as the net gets them."""
        for name, given in self.inputs.items():
            if given.dtype.kind != "f":
                continue
            bad = ~np.isfinite(given)
            if bad.any():
                # Data sets may have been converted before.
                beyond = f"; larger values than {np.finfo(self.model.dtype).max:.2g} are infinite in {self.model.dtype}"
                advice = "leave these out or fill them in" + ("" if np.isnan(given).any() else beyond)
                yield Cause(f"the data of {name} are not finite: {_rows(bad)}", advice)
            bad = ~np.isfinite(given.astype(self.model.dtype))
            if bad.any():
                text = f"the data of {name} are too large for {self.model.dtype}, up to {_largest(given):.3g}: "
                yield Cause(text + _rows(bad), "scale them, for example to mean 0 and variance 1")

    def _passes(self) -> Iterator[Cause]:
        """Run forward, the losses and backward, call by call."""
        model = self.model
        gradients = {name: np.zeros_like(each) for name, each in model.gradients.items()}
        plan = Plan(
            freeze(model.graph),
            {name: each.shape for name, each in self.inputs.items()},
            model.dtype,
            model.params,
            model.state,
            gradients,
            share_memory=False,
            losses=self.objective.trained,
        )
        plan.load(list(self.inputs.values()))
        measured = False
        for name, kind, call in plan.calls():
            if kind != "forward" and not measured:
                measured = True
                yield from self._losses(plan)
            call()
            tensors = plan.tensors.get(name)
            if tensors is None:
                continue
            if kind == "forward":
                if not all(_finite(y) for y in tensors.ys):
                    yield self._output(self.nodes[name], tensors.xs)
            elif kind == "backward":
                parameters = [getattr(tensors, f"d{name}") for name in self.declared[name].params]
                if not all(each is None or _finite(each) for each in (*tensors.dxs, *parameters)):
                    yield self._gradient(self.nodes[name], tensors)
        if not measured:
            yield from self._losses(plan)
        for name, value in model.state.items():
            if not _finite(value):
                owner = next(node for node in model.graph.nodes if name in self._state_of(node))
                yield Cause(
                    f"the state {name} is not finite after this step ({self._called(owner)})",
                    "the layer's inputs are too large for its statistics: scale the data, or those inputs",
                )

    def _output(self, node: GraphNode, inputs: Sequence[Array]) -> Cause:
        """A layer gave something that is not finite for what is."""
        bad_state = [name for name in self._state_of(node) if not _finite(self.model.state[name])]
        text = f"{node.name} is the first layer whose output is not finite (a {type(node.layer).__name__}"
        if bad_state:
            return Cause(f"{text}, whose {', '.join(bad_state)} is not finite)", "set or load finite values")
        sizes = max((_largest(each) for each in inputs), default=0.0)
        parameters = max((_largest(self.model.params[name]) for name in self._variables(node)), default=0.0)
        text += f"; inputs up to {sizes:.3g}" + (f", parameters up to {parameters:.3g})" if parameters else ")")
        if not self._is_ours(node) and max(sizes, parameters) < LARGE:
            return Cause(text, "look at what the layer computes")
        return Cause(text, self._advice())

    def _losses(self, plan: Plan) -> Iterator[Cause]:
        """What is wrong with the losses of outputs that are all finite."""
        terms = self.objective.terms
        for term, targets in zip(terms, self.failure.targets, strict=True):
            outputs = plan.outputs[term.output]
            gradient = plan.output_gradients.get(term.output)
            # A loss of a user may keep or change what it gets.
            loss = term.loss(outputs.copy(), targets.copy(), gradient)
            if math.isfinite(loss):
                if gradient is not None:
                    gradient *= term.weight
                    if not _finite(gradient):
                        yield self._loss_gradient(term, outputs, targets)
                continue
            yield self._loss(term, loss, outputs, targets)
        if not math.isfinite(self.failure.losses[0]) and len(terms) > 1:
            yield Cause(
                "every loss is finite, but their weighted sum is not", "give smaller loss_weights, or scale the targets"
            )

    def _loss(self, term: Term, loss: float, outputs: Array, targets: Array) -> Cause:
        kind = f"{term.label} ({type(term.loss).__name__})"
        if targets.dtype.kind == "f" and not _finite(targets):
            bad = ~np.isfinite(targets)
            return Cause(f"the targets of {kind} are not finite: {_rows(bad)}", "leave these out or fill them in")
        low, high = float(outputs.min()), float(outputs.max())
        last = self._last(term)
        if term.loss.domain == "probabilities" and not (low >= 0 and high <= 1):
            return Cause(
                f"{kind} takes probabilities from 0 to 1, but {last} gives {low:.3g} to {high:.3g}",
                "end the net with a Sigmoid, or use a loss that takes logits: BinaryCrossEntropy(from_logits=True)",
            )
        size, target = _largest(outputs), _largest(targets)
        text = (
            f"every layer's output is finite, but {kind} is {loss} for outputs of {last} from {low:.3g} to {high:.3g} "
            f"and targets from {targets.min():.3g} to {targets.max():.3g}"
        )
        if LOSSES.get(type(term.loss).__name__) is not type(term.loss) and max(size, target) < LARGE:
            return Cause(text, "look at what the loss computes")
        if target > max(size, LARGE):
            return Cause(text, "scale the targets, for example to mean 0 and variance 1")
        return Cause(text, self._advice())

    def _loss_gradient(self, term: Term, outputs: Array, targets: Array) -> Cause:
        kind = f"{term.label} ({type(term.loss).__name__})"
        text = (
            f"the gradient of outputs is not finite as {kind} gives it, for outputs of {self._last(term)} from "
            f"{outputs.min():.3g} to {outputs.max():.3g}"
        )
        if max(_largest(outputs), _largest(targets)) * term.weight < LARGE:
            return Cause(text, "look at what the loss computes")
        return Cause(text, "scale the targets, or the weight of the loss")

    def _gradient(self, node: GraphNode, tensors: Tensors) -> Cause:
        """The first layer, on the way back, whose gradients are not finite."""
        written = {node.variable(name): getattr(tensors, f"d{name}") for name in self.declared[node.name].params}
        written |= {f"the input of {node.name}": each for each in tensors.dxs}
        broken = next(name for name, each in written.items() if each is not None and not _finite(each))
        text = f"the gradient of {broken} is not finite, the first from the end, by {self._called(node)}"
        return Cause(text, self._advice() if self._is_ours(node) else "look at its backward")

    def _advice(self) -> str:
        """What helps against numbers that grow until they overflow."""
        for what, arrays in (("data", self.inputs.values()), ("targets", self.failure.targets)):
            largest = max((_largest(each) for each in arrays if each.dtype.kind == "f"), default=0.0)
            if largest > LARGE:
                return f"the {what} reach {largest:.3g}: scale them, for example to mean 0 and variance 1"
        for name, value in self.model.params.items():
            if _largest(value) > GROWN:
                return (
                    f"{name} of {self._called(self.owners[name])} has grown to {_largest(value):.3g}: "
                    + self._smaller_steps()
                )
        return self._smaller_steps()

    def _smaller_steps(self) -> str:
        rate = f"{self.failure.learning_rate:g}"
        return f"try a learning rate below {rate}, clip_norm, or batch norm"

    def _last(self, term: Term) -> str:
        value = self.model.graph.outputs[term.output]
        return self._called(self.nodes[value]) if value in self.nodes else value

    def _called(self, node: GraphNode) -> str:
        return f"{node.name} ({type(node.layer).__name__})"

    def _is_ours(self, node: GraphNode) -> bool:
        return LAYERS.get(type(node.layer).__name__) is type(node.layer)

    def _state_of(self, node: GraphNode) -> list[str]:
        """The model's names of the state of a node."""
        return [node.variable(name) for name in self.declared[node.name].state]

    def _variables(self, node: GraphNode) -> list[str]:
        """The model's names of the parameters of a node."""
        return [node.variable(name) for name in self.declared[node.name].params]


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _largest(array: Array) -> float:
    """The largest magnitude of the finite elements, 0 where there is none."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return float(np.abs(finite).max()) if finite.size and finite.dtype.kind != "b" else 0.0


def _rows(bad: Array) -> str:
    """Say in which samples of a batch something is bad."""
    rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    some = ", ".join(map(str, rows[:3].tolist())) + (", ..." if len(rows) > 3 else "")
    return f"{len(rows)} of {len(bad)} samples of the batch ({some})"
