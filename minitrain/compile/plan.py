"""A graph bound to memory for one batch size: the calls of a forward and a backward pass, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.compile.derived import DerivedArrays
from minitrain.compile.memory import ALIGNMENT, place
from minitrain.compile.poison import is_poisoned, poison
from minitrain.compile.schedule import Request, Schedule, Step, schedule_inference, schedule_training
from minitrain.graph import Graph
from minitrain.kernels.add import add
from minitrain.layer import Declaration, Layer, Shape, Tensors, describe
from minitrain.sealed import Sealed
from nbnorm.jit.arrays import Array

__all__ = ["Plan", "new_arena"]

Arrays = Mapping[str, Array]
Call = tuple[str, str, Callable[[Tensors], None], Tensors]  # the node, what kind of call, what runs, on what
NOTHING_BOUND = Tensors(())  # what calls of the plan itself run on


def new_arena(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes that begin at a multiple of the alignment."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


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
        Filled by `load` or directly.
    outputs, output_gradients : mapping of name to array
        Written by `forward`; written by the losses before `backward`.
    output, output_gradient : array
        The first of each: the only one, where the graph returns one array.
    dinputs : mapping of name to array
        Written by `backward`, where it was asked for.
    shapes : mapping of name to shape
        Of the inputs.
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
        self.batch = next(iter(self.shapes.values()))[0]
        self.training = gradients is not None
        if self.training:
            schedule = schedule_training(
                graph, self.shapes, dtype, input_gradients=input_gradients, share_memory=share_memory, losses=losses
            )
        else:
            schedule = schedule_inference(graph, self.shapes, dtype)
        binding = _Binding(schedule, dtype, arena, share_memory)
        self.arena_size = binding.size
        self.inputs = tuple(binding[request] for request in schedule.inputs.values())
        self.outputs = {name: binding[request] for name, request in schedule.outputs.items()}
        self.output = next(iter(self.outputs.values()))
        self._derived = derived or DerivedArrays(graph, dtype, params, state, self.training)
        self._carried: list[Array] = []
        self._declared: dict[Tensors, Declaration] = {}
        self._unchecked = {"forward", "backward"}
        self.tensors = {}
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        for step in schedule.steps:
            tensors = self._bind_step(binding, step, params, state, gradients)
            self.tensors[step.node.name] = tensors
            layer = step.node.layer
            if self.training:
                layer.bind_forward(tensors)
                if step.works_backward:
                    layer.bind_backward(tensors)
            else:
                layer.bind_infer(tensors)
            if step.declaration.works_forward:
                run = layer.forward if self.training else layer.infer
                self._forward.append((step.node.name, "forward", run, tensors))
        self.output_gradients = {name: binding[each] for name, each in schedule.output_gradients.items()}
        self.dinputs = {}
        if gradients is not None:
            self._schedule_backward(schedule, binding, gradients)

    @property
    def output_gradient(self) -> Array:
        """The gradient of the first output that has one."""
        return next(iter(self.output_gradients.values()))

    def _schedule_backward(self, schedule: Schedule, binding: _Binding, gradients: Arrays) -> None:
        for name in schedule.unreached:
            self._backward.append((name, "sum", partial(_zero, gradients[name]), NOTHING_BOUND))
        for step in reversed(schedule.steps):
            self._backward.extend(_backward_calls(binding, step, self.tensors[step.node.name], gradients))
        for name, (total, parts) in schedule.input_gradients.items():
            self.dinputs[name] = binding[total]
            if len(parts) != 1:
                self._backward.extend(_sum_calls(name, binding[total], [binding[part] for part in parts]))

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
        for name, target, given in zip(self.shapes, self.inputs, arrays, strict=True):
            given, label = np.asarray(given), "x" if len(self.inputs) == 1 else f"x ({name})"
            if given.shape != target.shape:
                raise ValueError(
                    f"{label}: expected shape {describe(target.shape)} with N = {self.batch}, got {given.shape}"
                )
            if given.dtype.kind not in ("fiub" if target.dtype.kind == "f" else INTEGERS[target.dtype.kind]):
                raise TypeError(f"{label}: expected an array of {target.dtype}, got dtype {given.dtype}")
            target[...] = given

    def forward(self) -> None:
        """Run all layers on the loaded inputs; `outputs` hold the result."""
        self._update_derived()
        if "forward" in self._unchecked:
            self._run_first("forward", self._forward)
            return
        with np.errstate(over="ignore", invalid="ignore"):  # who runs a plan looks at its numbers
            for _, _, run, tensors in self._forward:
                run(tensors)

    def backward(self) -> None:
        """Write the gradients of all parameters, from `output_gradients`."""
        if "backward" in self._unchecked:
            self._run_first("backward", self._backward)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            for _, _, run, tensors in self._backward:
                run(tensors)

    def reset(self) -> None:
        """Set what layers carry from call to call to zeros."""
        for each in self._carried:
            each.fill(0)

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

    def _run_first(self, kind: str, calls: Sequence[Call]) -> None:
        """Run calls for the first time: a layer that is not ours may forget to write what it has to."""
        layers = {node.name: node.layer for node in self.graph.nodes}
        with np.errstate(over="ignore", invalid="ignore"):
            for name, each, run, tensors in calls:
                layer = layers.get(name)
                if each != kind or layer is None or _is_ours(layer):
                    run(tensors)
                    continue
                written = self._written(tensors, layer, kind)
                for array in written.values():
                    poison(array)
                run(tensors)
                left = [label for label, array in written.items() if is_poisoned(array)]
                if left:
                    raise ValueError(
                        f"{name}: {type(layer).__name__}.{run.__name__} left {', '.join(left)} as it was, "
                        f"at least in part; write into the array (t.{left[0]}[...] = ...), do not give the name anew"
                    )
        self._unchecked.discard(kind)

    def _written(self, tensors: Tensors, layer: Layer, kind: str) -> dict[str, Array]:
        """The arrays that a call has to overwrite, by the layer's names."""
        declared = self._declared[tensors]
        if kind == "forward":
            return {name: getattr(tensors, name) for name in declared.outputs if name not in declared.same}
        gradients = {f"d{name}": getattr(tensors, f"d{name}") for name in declared.params}
        for index, dx in enumerate(tensors.dxs):
            name = f"dx{index}"
            if name not in declared.same and name not in declared.may_share:  # else it may hold what is read
                gradients["dx" if len(tensors.xs) == 1 else f"dxs[{index}]"] = dx
        return {name: array for name, array in gradients.items() if array is not None}

    def _update_derived(self) -> None:
        if self._derived.arrays:
            self._derived.update(self._derive)

    def _derive(self) -> None:
        for node in self.graph.nodes:
            if node.name in self._derived.arrays:
                node.layer.derive(self.tensors[node.name])

    def _bind_step(
        self, binding: _Binding, step: Step, params: Arrays, state: Arrays, gradients: Arrays | None
    ) -> Tensors:
        declaration, variable = step.declaration, step.node.variable
        ys = tuple(binding[output] for output in step.outputs.values())
        bound: dict[str, Array | None] = dict(zip(step.outputs, ys, strict=True))
        bound |= {name: binding[request] for name, request in (step.local | step.backward_scratch).items()}
        bound |= {name: params[variable(name)] for name in declaration.params}
        bound |= {name: state[variable(name)] for name in declaration.state}
        bound |= self._derived.arrays.get(step.node.name, {})
        for name, spec in declaration.carried.items():
            carried: Array = np.zeros(spec.shape, spec.dtype or binding.dtype)
            bound[name] = carried
            self._carried.append(carried)
        if gradients is not None:
            for name in declaration.outputs:
                bound[f"d{name}"] = binding[step.gradients[name]] if name in step.gradients else None
            for name in declaration.params:
                bound[f"d{name}"] = None
            for name, request in step.dparams.items():
                bound[f"d{name}"] = gradients[variable(name)] if request is None else binding[request]
        tensors = Tensors(
            [binding[x] for x in step.xs],
            [None if dx is None else binding[dx] for dx in step.dxs] or None,
            {**bound, "ys": ys},  # type: ignore[dict-item]
            None if step.dx_before is None else binding[step.dx_before],
        )
        self._declared[tensors] = declaration
        return tensors


INTEGERS = {"i": "iu", "u": "iu", "b": "b"}  # kinds of arrays that an input of this kind takes


def _is_ours(layer: Layer) -> bool:
    return type(layer).__module__.startswith("minitrain.layers")


def _zero(array: Array, _: Tensors) -> None:
    array.fill(0)


class _Binding:
    """Arrays for the requests of a schedule."""

    def __init__(
        self,
        schedule: Schedule,
        dtype: np.dtype,
        arena: Callable[[int], npt.NDArray[np.uint8]],
        share_memory: bool,
    ) -> None:
        self.dtype = dtype
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


def _backward_calls(binding: _Binding, step: Step, tensors: Tensors, gradients: Arrays) -> list[Call]:
    calls: list[Call] = []
    for total, parts in step.sums:
        calls.extend(_sum_calls(step.node.name, binding[total], [binding[part] for part in parts]))
    if not step.works_backward:
        return calls
    same = step.declaration.same
    if step.dparams or any(dx is not None and f"dx{index}" not in same for index, dx in enumerate(step.dxs)):
        calls.append((step.node.name, "backward", step.node.layer.backward, tensors))
    for name, part in step.dparams.items():
        if part is not None:
            whole = gradients[step.node.variable(name)]
            calls.extend(_sum_calls(step.node.name, whole, [whole, binding[part]]))
    return calls


def _sum_calls(name: str, total: Array, parts: Sequence[Array]) -> list[Call]:
    """Add parts in the order they were written; no part at all leaves zeros (an output that nobody reads)."""
    flat = [part.reshape(-1) for part in parts]
    target = total.reshape(-1)
    run = add.for_work(target.size)
    if not flat:
        return [(name, "sum", partial(_zero, target), NOTHING_BOUND)]
    pairs = [(flat[0], flat[1]), *((target, part) for part in flat[2:])]
    return [(name, "sum", lambda _, a=a, b=b: run(a, b, target), NOTHING_BOUND) for a, b in pairs]  # type: ignore[misc]
