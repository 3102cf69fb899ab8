"""A graph bound to memory for one batch size: the calls of a forward and a backward pass, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from minitrain.compile.derived import DerivedArrays
from minitrain.compile.memory import ALIGNMENT, place
from minitrain.compile.schedule import Request, Schedule, Step, schedule_inference, schedule_training
from minitrain.graph import Graph
from minitrain.kernels.add import add
from minitrain.layer import Tensors, describe
from nbnorm.jit.arrays import Array

__all__ = ["Plan", "new_arena"]

Arrays = Mapping[str, Array]
Call = tuple[str, str, Callable[[Tensors], None], Tensors]  # the node, what kind of call, what runs, on what


def new_arena(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes that begin at a multiple of the alignment."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


class Plan:
    """Runs a graph forward and, when made for training, backward in one arena.

    Parameters
    ----------
    graph : Graph
    batch : int
        Samples in every call.
    dtype : numpy dtype
    params, gradients, state : name to array
        The model's variables, bound as they are. Without `gradients` the plan is for inference.
    derived : DerivedArrays, optional
        What the layers derive for inference from these parameters and this state; the plan's own unless given.
    arena : callable
        `arena(size)` returns at least that many bytes, aligned. The content is the plan's only while it runs.
    share_memory : bool
        Whether buffers that do not live at the same time may share their place. False keeps everything, to look at.
    input_gradients : bool
        Whether backward writes the gradients of the inputs too, into `dinputs`.

    Attributes
    ----------
    inputs : tuple of array
        Filled by `load` or directly.
    output, output_gradient : array
        Written by `forward`; written by the loss before `backward`.
    arena_size : int
        Bytes.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        dtype: np.dtype,
        params: Arrays,
        state: Arrays,
        gradients: Arrays | None = None,
        *,
        derived: DerivedArrays | None = None,
        arena: Callable[[int], npt.NDArray[np.uint8]] = new_arena,
        share_memory: bool = True,
        input_gradients: bool = False,
    ) -> None:
        self.graph = graph
        self.batch = batch
        self.training = gradients is not None
        if self.training:
            schedule = schedule_training(
                graph, batch, dtype, input_gradients=input_gradients, share_memory=share_memory
            )
        else:
            schedule = schedule_inference(graph, batch, dtype)
        binding = _Binding(schedule, arena, share_memory)
        self.arena_size = binding.size
        self.inputs = tuple(binding[request] for request in schedule.inputs.values())
        self.output = binding[schedule.output]
        self.tensors: dict[str, Tensors] = {}
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        if derived is None and not self.training:
            derived = DerivedArrays(graph, dtype, params, state)
        self._derived = derived
        for step in schedule.steps:
            own = derived.arrays.get(step.node.name, {}) if derived is not None else {}
            tensors = _bind_step(binding, step, params, state, gradients, own)
            self.tensors[step.node.name] = tensors
            layer = step.node.layer
            if self.training:
                layer.bind_forward(tensors)
                layer.bind_backward(tensors)
            else:
                layer.bind_infer(tensors)
            if not step.declaration.output_is_view:
                run = layer.forward if self.training else layer.infer
                self._forward.append((step.node.name, "forward", run, tensors))
        if schedule.output_gradient is not None:
            self.output_gradient = binding[schedule.output_gradient]
            for step in reversed(schedule.steps):
                self._backward.extend(_backward_calls(binding, step, self.tensors[step.node.name]))
        if input_gradients:
            self.dinputs = self._bind_input_gradients(schedule, binding)

    def load(self, x: Array | Sequence[Array]) -> None:
        """Copy a batch into the inputs, cast to the plan's dtype.

        Raises
        ------
        ValueError
            A wrong shape.
        TypeError
            No real numbers.
        """
        arrays = x if isinstance(x, (list, tuple)) else (x,)
        if len(arrays) != len(self.inputs):
            raise ValueError(f"x: expected {len(self.inputs)} arrays, got {len(arrays)}")
        for target, given in zip(self.inputs, arrays, strict=True):
            given = np.asarray(given)
            if given.shape != target.shape:
                raise ValueError(f"x: expected shape {describe(target.shape)} with N = {self.batch}, got {given.shape}")
            if given.dtype.kind not in "fiub":
                raise TypeError(f"x: expected numbers, got dtype {given.dtype}")
            target[...] = given

    def forward(self) -> None:
        """Run all layers on the loaded inputs; `output` holds the result."""
        self._update_derived()
        with np.errstate(over="ignore", invalid="ignore"):  # who runs a plan looks at its numbers
            for _, _, run, tensors in self._forward:
                run(tensors)

    def backward(self) -> None:
        """Write the gradients of all parameters, from `output_gradient`."""
        with np.errstate(over="ignore", invalid="ignore"):
            for _, _, run, tensors in self._backward:
                run(tensors)

    def forward_one_by_one(self) -> Iterator[tuple[str, tuple[Array, ...]]]:
        """Run forward and yield each layer's name and outputs while they are still there."""
        self._update_derived()
        calls = {name: run for name, _, run, _ in self._forward}
        for node in self.graph.nodes:
            tensors = self.tensors[node.name]
            if node.name in calls:
                calls[node.name](tensors)
            yield node.name, tensors.ys

    def calls(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        """Yield what `forward` and `backward` do, call by call: node, "forward" or "backward" or "sum", the call."""
        self._update_derived()
        for name, kind, run, tensors in (*self._forward, *self._backward):
            yield name, kind, partial(run, tensors)

    def _update_derived(self) -> None:
        if self._derived is not None:
            self._derived.update(self._derive)

    def _derive(self) -> None:
        for node in self.graph.nodes:
            node.layer.derive(self.tensors[node.name])

    def _bind_input_gradients(self, schedule: Schedule, binding: _Binding) -> dict[str, Array]:
        """Name the gradients of the inputs; those that are read more than once are summed at the end."""
        gradients = {}
        for name, requests in schedule.input_gradients.items():
            parts = [binding[request] for request in requests]
            total = parts[0]
            if len(parts) > 1:
                total = np.empty_like(parts[0])
                self._backward.extend(_sum_calls(name, total, parts))
            gradients[name] = total
        return gradients


class _Binding:
    """Arrays for the requests of a schedule."""

    def __init__(self, schedule: Schedule, arena: Callable[[int], npt.NDArray[np.uint8]], share_memory: bool) -> None:
        owners = schedule.owners()
        lifetimes = [request.lifetime() for request in owners]
        if not share_memory:
            end = max(each.last for each in lifetimes)
            lifetimes = [type(each)(each.size, 0, end) for each in lifetimes]
        offsets, self.size = place(lifetimes)
        memory = arena(self.size)
        self._arrays: dict[int, Array] = {}
        for request, lifetime, offset in zip(owners, lifetimes, offsets, strict=True):
            part = memory[offset : offset + lifetime.size]
            self._arrays[id(request)] = part.view(request.dtype).reshape(request.shape)

    def __getitem__(self, request: Request) -> Array:
        if request.view_of is not None:
            return self[request.view_of].reshape(request.shape)
        return self._arrays[id(request)]


def _bind_step(
    binding: _Binding, step: Step, params: Arrays, state: Arrays, gradients: Arrays | None, derived: Arrays
) -> Tensors:
    tensors = Tensors()
    dxs = [None if dx is None else binding[dx] for dx in step.dxs]
    tensors.bind_inputs([binding[x] for x in step.xs], dxs or None)
    tensors.dx_before = None if step.dx_before is None else binding[step.dx_before]
    tensors.ys = tuple(binding[output] for output in step.outputs.values())
    bound: dict[str, Array] = dict(zip(step.outputs, tensors.ys, strict=True))
    bound |= {f"d{name}": binding[gradient] for name, gradient in step.gradients.items()}
    bound |= {name: binding[request] for name, request in (step.local | step.backward_scratch).items()}
    for name in step.declaration.params:
        bound[name] = params[step.node.variable(name)]
        if gradients is not None:
            bound[f"d{name}"] = gradients[step.node.variable(name)]
    for name in step.declaration.state:
        bound[name] = state[step.node.variable(name)]
    bound |= derived
    for name, each in bound.items():
        setattr(tensors, name, each)
    return tensors


def _backward_calls(binding: _Binding, step: Step, tensors: Tensors) -> list[Call]:
    calls: list[Call] = []
    for total, parts in step.sums:
        calls.extend(_sum_calls(step.node.name, binding[total], [binding[part] for part in parts]))
    declaration = step.declaration
    idle = declaration.output_is_view or declaration.gradients_are_views
    if not idle and (declaration.params or any(dx is not None for dx in step.dxs)):
        calls.append((step.node.name, "backward", step.node.layer.backward, tensors))
    return calls


def _sum_calls(name: str, total: Array, parts: Sequence[Array]) -> list[Call]:
    """Add parts in the order they were written; no part at all leaves zeros (an output that nobody reads)."""
    flat = [part.reshape(-1) for part in parts]
    target = total.reshape(-1)
    run = add.for_work(target.size)
    if not flat:
        return [(name, "sum", lambda _: target.fill(0), Tensors())]
    pairs = [(flat[0], flat[1]), *((target, part) for part in flat[2:])]
    return [(name, "sum", lambda _, a=a, b=b: run(a, b, target), Tensors()) for a, b in pairs]  # type: ignore[misc]
