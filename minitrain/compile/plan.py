"""A graph bound to memory for the shapes of its inputs: the calls of a forward and a backward pass, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.compile.binding import Arrays, Binding, ModelArrays, new_arena
from minitrain.compile.derived import DerivedArrays
from minitrain.compile.first_call import Call, check_first_call
from minitrain.compile.requests import Schedule, Step
from minitrain.compile.schedule import schedule_inference, schedule_training
from minitrain.graph import Graph
from minitrain.kernels.add import add
from minitrain.layer import Shape, Tensors, describe
from minitrain.sealed import Sealed
from nbnorm.jit.arrays import Array

__all__ = ["Plan", "new_arena"]

NOTHING_BOUND = Tensors(())  # what calls of the plan itself run on
# Kinds of arrays that an input of this kind takes.
KINDS = {"f": "fiub", "i": "iu", "u": "iu", "b": "b"}


class Plan(Sealed, sealed=True):
    """Runs a graph forward and, when made for training, backward in one arena.

    Parameters
    ----------
    graph : Graph
    inputs : int or mapping of name to shape
        Samples in every call, or the shapes of all inputs, batch axis first.
    dtype : numpy dtype
    params, gradients, state : name to array
        The model's variables, bound as they are. Without `gradients` the plan is for inference.
    derived : DerivedArrays, optional
        What the layers derive from these parameters and this state; the plan's own unless given.
    arena : callable
        `arena(size)` returns at least that many bytes, aligned. The content is the plan's only while it runs.
    share_memory : bool
        Whether buffers that do not live at the same time may share their place. False keeps everything, to look at.
    input_gradients : bool
        Whether backward writes the gradients of the inputs too, into `dinputs`.
    losses : collection of str, optional
        The outputs whose gradients are given; all of floats by default.

    Attributes
    ----------
    inputs : tuple of array
        Filled by `load` or directly, before every `forward`: the memory is others' once nobody reads them any more.
    outputs, output_gradients : mapping of name to array
        Written by `forward`; written by the losses before `backward`.
    output, output_gradient : array
        The first of each: the only one, where the graph returns one array.
    dinputs : mapping of name to array
        Written by `backward`, where it was asked for.
    shapes : mapping of name to shape
        Of the inputs.
    key : tuple of shapes
        The same without the names.
    batch : int
        Samples in every call.
    arena_size : int
        Bytes.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        "output_gradient": "write into the array: plan.output_gradient[...] = dy",
        "output_gradients": "write into the arrays: plan.output_gradients[name][...] = dy",
        "inputs": "write plan.load(x)",
        "batch": "make another plan",
    }

    graph: Graph
    shapes: dict[str, Shape]
    key: tuple[Shape, ...]
    batch: int
    training: bool
    arena_size: int
    inputs: tuple[Array, ...]
    outputs: dict[str, Array]
    output: Array
    output_gradients: dict[str, Array]
    dinputs: dict[str, Array]
    tensors: dict[str, Tensors]

    def __init__(
        self,
        graph: Graph,
        inputs: int | Mapping[str, Shape],
        dtype: np.dtype,
        params: Arrays,
        state: Arrays,
        gradients: Arrays | None = None,
        *,
        derived: DerivedArrays | None = None,
        arena: Callable[[int], npt.NDArray[np.uint8]] = new_arena,
        share_memory: bool = True,
        input_gradients: bool = False,
        losses: Collection[str] | None = None,
    ) -> None:
        self.graph = graph
        self.shapes = dict(inputs) if isinstance(inputs, Mapping) else graph.input_shapes(inputs)
        self.key = tuple(self.shapes.values())
        self.batch = self.key[0][0]
        self.training = gradients is not None
        if self.training:
            schedule = schedule_training(
                graph, self.shapes, dtype, input_gradients=input_gradients, share_memory=share_memory, losses=losses
            )
        else:
            schedule = schedule_inference(graph, self.shapes, dtype)
        binding = Binding(schedule, dtype, arena, share_memory)
        self.arena_size = binding.size
        self.inputs = tuple(binding[request] for request in schedule.inputs.values())
        self.outputs = {name: binding[request] for name, request in schedule.outputs.items()}
        self.output = next(iter(self.outputs.values()))
        self.output_gradients = {name: binding[each] for name, each in schedule.output_gradients.items()}
        self.dinputs = {name: binding[total] for name, (total, _) in schedule.input_gradients.items()}
        self._derived = derived or DerivedArrays(graph, dtype, params, state, self.training)
        model = ModelArrays(params, state, gradients, self._derived.arrays)
        self.tensors = {step.node.name: binding.tensors(step, model) for step in schedule.steps}
        self._carried = binding.carried
        for step in schedule.steps:
            self._bind(step)
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        self._call_forward(schedule)
        if gradients is not None:
            self._call_backward(schedule, binding, gradients)

    @property
    def output_gradient(self) -> Array:
        """The gradient of the first output that has one."""
        return next(iter(self.output_gradients.values()))

    def _bind(self, step: Step) -> None:
        """Let a layer choose and slice; an error there names its node."""
        layer, tensors = step.node.layer, self.tensors[step.node.name]
        try:
            if not self.training:
                layer.bind_infer(tensors)
                return
            layer.bind_forward(tensors)
            if step.works_backward:
                layer.bind_backward(tensors)
        except (ValueError, AttributeError) as error:
            raise type(error)(f"{step.node.name}: {error}") from error

    def _call_forward(self, schedule: Schedule) -> None:
        for step in schedule.steps:
            if step.declaration.works_forward:
                layer, tensors = step.node.layer, self.tensors[step.node.name]
                run = layer.forward if self.training else layer.infer
                self._forward.append((step.node.name, "forward", run, tensors))
                own = [name for name, request in step.outputs.items() if request.view_of is None]
                check_first_call(self._forward, layer, {name: getattr(tensors, name) for name in own})

    def _call_backward(self, schedule: Schedule, binding: Binding, gradients: Arrays) -> None:
        for name in schedule.unreached:
            self._backward.append((name, "sum", partial(_zero, gradients[name]), NOTHING_BOUND))
        for step in reversed(schedule.steps):
            name, layer, tensors = step.node.name, step.node.layer, self.tensors[step.node.name]
            for total, parts in step.sums:
                self._backward += _sum_calls(name, binding[total], [binding[part] for part in parts])
            written = [dx for index, dx in enumerate(step.dxs) if f"dx{index}" not in step.declaration.same]
            if step.dparams or any(dx is not None for dx in written):
                self._backward.append((name, "backward", layer.backward, tensors))
                check_first_call(self._backward, layer, _written_backward(step, tensors))
            for local, part in step.dparams.items():
                if part is not None:
                    whole = gradients[step.node.variable(local)]
                    self._backward += _sum_calls(name, whole, [whole, binding[part]])
        for name, (total, parts) in schedule.input_gradients.items():
            if len(parts) != 1:
                self._backward += _sum_calls(name, binding[total], [binding[part] for part in parts])

    def load(self, x: Array | Sequence[Array]) -> None:
        """Copy a batch into the inputs, floats cast to the plan's dtype.

        Raises
        ------
        ValueError
            A wrong shape.
        TypeError
            No real numbers; floats for an input of integers.
        """
        arrays = x if isinstance(x, (list, tuple)) else (x,)
        if len(arrays) != len(self.inputs):
            raise ValueError(f"x: expected {len(self.inputs)} arrays, got {len(arrays)}")
        for target, given in zip(self.inputs, arrays, strict=True):
            if type(given) is np.ndarray and given.dtype == target.dtype and given.shape == target.shape:
                target[...] = given
            else:
                self._load_other(target, np.asarray(given))

    def _load_other(self, target: Array, given: Array) -> None:
        """Copy what is to be converted, or tell what is wrong with it."""
        name = next(name for name, each in zip(self.shapes, self.inputs, strict=True) if each is target)
        label = "x" if len(self.inputs) == 1 else f"x ({name})"
        if given.shape != target.shape:
            raise ValueError(
                f"{label}: expected shape {describe(target.shape)} with N = {self.batch}, got {given.shape}"
            )
        if given.dtype.kind not in KINDS[target.dtype.kind]:
            raise TypeError(f"{label}: expected an array of {target.dtype}, got dtype {given.dtype}")
        with np.errstate(over="ignore"):  # the infinity shows in the loss, with words
            target[...] = given

    def forward(self) -> None:
        """Run all layers on the loaded inputs; `outputs` hold the result."""
        self.update_derived()
        with np.errstate(over="ignore", invalid="ignore"):  # who runs a plan looks at its numbers
            for _, _, run, tensors in self._forward:
                run(tensors)

    def backward(self) -> None:
        """Write the gradients of all parameters, from `output_gradients`."""
        with np.errstate(over="ignore", invalid="ignore"):
            for _, _, run, tensors in self._backward:
                run(tensors)

    def reset(self) -> None:
        """Set what layers carry from call to call to zeros."""
        for each in self._carried:
            each.fill(0)

    def forward_one_by_one(self) -> Iterator[tuple[str, tuple[Array, ...]]]:
        """Run forward and yield each layer's name and outputs while they are still there."""
        self.update_derived()
        calls = {name: run for name, _, run, _ in self._forward}
        for node in self.graph.nodes:
            tensors = self.tensors[node.name]
            if node.name in calls:
                calls[node.name](tensors)
            yield node.name, tensors.ys

    def calls(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        """Yield what `forward` and `backward` do, call by call: node, "forward" or "backward" or "sum", the call."""
        self.update_derived()
        for name, kind, run, tensors in (*self._forward, *self._backward):
            yield name, kind, partial(run, tensors)

    def update_derived(self) -> None:
        """Make what layers derive from the parameters anew where these have changed; `forward` does it by itself."""
        if self._derived.arrays:
            self._derived.update(self._derive)

    def _derive(self) -> None:
        for node in self.graph.nodes:
            if node.name in self._derived.arrays:
                node.layer.derive(self.tensors[node.name])


def _written_backward(step: Step, tensors: Tensors) -> dict[str, Array | None]:
    """The gradients that a backward call has to write, by the layer's names; not those over what it reads."""
    gradients = {f"d{name}": getattr(tensors, f"d{name}") for name in step.declaration.params}
    for index, (request, dx) in enumerate(zip(step.dxs, tensors.dxs, strict=True)):
        if request is not None and request.view_of is None:
            gradients["dx" if len(tensors.xs) == 1 else f"dxs[{index}]"] = dx
    return gradients


def _zero(array: Array, _: Tensors) -> None:
    array.fill(0)


def _sum_calls(name: str, total: Array, parts: Sequence[Array]) -> list[Call]:
    """Add parts in the order they were written; no part at all leaves zeros (an output that nobody reads)."""
    flat = [part.reshape(-1) for part in parts]
    target = total.reshape(-1)
    run = add.for_work(target.size)
    if not flat:
        return [(name, "sum", partial(_zero, target), NOTHING_BOUND)]
    pairs = [(flat[0], flat[1]), *((target, part) for part in flat[2:])]
    return [(name, "sum", lambda _, a=a, b=b: run(a, b, target), NOTHING_BOUND) for a, b in pairs]  # type: ignore[misc]
