"""The layer contract: what a layer declares, what it is given, what it may touch.

1. A layer is a frozen dataclass of hyperparameters. It owns no arrays and knows no mode. One layer object that is
   called on several nodes shares its parameters and state among them.
2. `declare` takes a `Spec` of each input, batch axis first, and names every array by kind. Inputs that do not fit are
   errors there, in words.
3. `bind_forward`, `bind_backward` and `bind_infer` are given the arrays of a `Tensors`, once: they choose kernels, make
   views, and bind calls to arrays. `forward`, `backward` and `infer` then compute: they choose nothing. What nobody
   wants is None: `t.dx` where no gradient of the input is needed, `t.dweight` of a frozen parameter. They overwrite
   what they write, never change what they read (where a gradient may take an array's place, the layer says so:
   `may_share`), and allocate nothing that grows with the batch. The plan sums what several readers give: gradients of
   values, and of shared parameters.
4. `infer` is `forward` unless the layer says otherwise. What it needs of the parameters and the state in another form
   (weights in the order of a kernel, a batch norm folded into them) is a `derived` array, which `derive` writes.
   Inference runs `derive` before `infer` when a parameter or state has changed: a layer need not ask.
5. `examples` lists inputs (and arguments) that the contract tests run. A layer without examples fails the tests.
"""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.initializers import Constant
from minitrain.sealed import Sealed

__all__ = [
    "Buffer",
    "Declaration",
    "Example",
    "Layer",
    "Node",
    "Shape",
    "Spec",
    "Tensors",
    "array",
    "float_shapes",
    "ones",
    "weight",
    "zeros",
]

Shape = tuple[int, ...]
FreeShape = tuple[Any, ...]  # int or None: an axis that each batch has its own size of
Fill = Callable[[np.random.Generator, Shape, int, int], npt.NDArray[Any]]

TYPICAL_BATCH = 2  # the smallest batch that batch norm accepts: shapes are inferred with it
# A free axis is declared with both of these sizes: what differs follows from it. Powers of two, so that the two still
# differ after many halvings, and large enough for the windows of usual nets.
FREE_SIZES = (256, 512)
_created = itertools.count()


@dataclass(frozen=True)
class Spec:
    """What is known of an array before it exists.

    Attributes
    ----------
    shape : tuple of int
        Batch axis first, where a layer declares it.
    dtype : str or None
        None stands for the model's float type.
    gradient : bool
        Whether a gradient flows back. False for integers, masks, statistics.
    """

    shape: Shape
    dtype: str | None = None
    gradient: bool = True

    def __post_init__(self) -> None:
        if self.dtype is not None and np.dtype(self.dtype).kind != "f" and self.gradient:
            object.__setattr__(self, "gradient", False)  # nothing flows through an integer

    @property
    def is_float(self) -> bool:
        """Whether it holds numbers of the model's float type, or of one of its own."""
        return self.dtype is None or np.dtype(self.dtype).kind == "f"


@dataclass(frozen=True)
class Buffer:
    """Shape, dtype and first content of one parameter or state.

    Attributes
    ----------
    shape : tuple of int
    dtype : str or None
        None stands for the model's dtype.
    fill : callable or None
        `fill(rng, shape, fan_in, fan_out)` gives the first content of a parameter or state. An initializer is one.
    fan_in, fan_out : int
        Inputs that reach one output, outputs that one input reaches: what initializers scale by.
    penalized : bool
        Whether L1 and L2 penalties reach this parameter unless the user says otherwise.
    """

    shape: Shape
    dtype: str | None = None
    fill: Fill | None = None
    fan_in: int = 1
    fan_out: int = 1
    penalized: bool = False


def array(shape: Shape, dtype: str | None = None) -> Spec:
    """Declare an array that is written before it is read, without a gradient."""
    return Spec(shape, dtype, gradient=False)


def zeros(shape: Shape) -> Buffer:
    """Declare a parameter or state that starts as zeros."""
    return Buffer(shape, fill=Constant(0.0))


def ones(shape: Shape) -> Buffer:
    """Declare a parameter or state that starts as ones."""
    return Buffer(shape, fill=Constant(1.0))


def weight(shape: Shape, fan_in: int, fan_out: int, fill: Fill) -> Buffer:
    """Declare weights: a parameter that starts at random and that penalties reach."""
    return Buffer(shape, None, fill, fan_in, fan_out, penalized=True)


@dataclass(frozen=True)
class Declaration:
    """Every array of a layer for given inputs.

    Attributes
    ----------
    outputs : name to Spec, batch axis first
        The first one has the layer's own name in a graph; it is called "y". Another one, "h", is the value "rnn1.h".
        Those without a gradient are written by `forward`, and nothing flows back from them.
    params : learned arrays; the gradient of `weight` is bound as `dweight`.
    state : arrays that are kept and saved with the model but never optimized, such as running statistics.
    carried : arrays that a plan keeps from call to call, zeros at first and after `Plan.reset`.
    saved : arrays that forward writes and backward reads.
    scratch : working space of one call of `forward` or `infer`; holds rubbish before it.
    backward_scratch : working space of one call of `backward`.
    derived : arrays that `derive` writes from the parameters and the state alone, and `infer` reads. They are kept
        between calls, for plans of any batch size: neither shape nor content depends on the batch. There in inference,
        and in training where the class says so (`derives_in_training`).
    backward_reads : which of "x" (all inputs), "x0", "x1" ... (one of several) and the outputs' names backward needs.
        Anything not named here may have been overwritten by then. Gradients of the outputs, parameters, state and saved
        arrays are always there.
    same : which arrays are one memory, under another shape perhaps, so that there is no work: "y": "x0" (the output is
        the input), "dx0": "dy" (the input's gradient is the output's).
    may_share : for a gradient of an input ("dx0"), what it may share its memory with, best first: an input of the same
        shape ("x1"), or the gradient of the output ("dy"). A layer that allows it reads each element of that before it
        writes there.
    adds_gradient : the layer has one input, and `backward` adds `t.dx_before` to its gradient, where that is not None:
        what the other layers that read the input have found already.
    """

    outputs: Mapping[str, Spec]
    params: Mapping[str, Buffer] = field(default_factory=dict)
    state: Mapping[str, Buffer] = field(default_factory=dict)
    carried: Mapping[str, Spec] = field(default_factory=dict)
    saved: Mapping[str, Spec] = field(default_factory=dict)
    scratch: Mapping[str, Spec] = field(default_factory=dict)
    backward_scratch: Mapping[str, Spec] = field(default_factory=dict)
    derived: Mapping[str, Spec] = field(default_factory=dict)
    backward_reads: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)
    may_share: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    adds_gradient: bool = False

    def reads_input(self, index: int) -> bool:
        """Return whether backward needs this input."""
        return "x" in self.backward_reads or f"x{index}" in self.backward_reads

    @property
    def works_forward(self) -> bool:
        """Whether there is an output that is not the input itself."""
        return any(name not in self.same for name in self.outputs)

    @property
    def first(self) -> Spec:
        """The first output."""
        return next(iter(self.outputs.values()))


class Tensors:
    """The arrays of one layer in one plan, as attributes.

    `x`, `dx`: the only input and its gradient; `xs`, `dxs`: all of them, as tuples. `y`, `dy` and so on for every
    declared output; `weight`, `dweight` for a parameter called weight; state, carried, saved, scratch and derived
    arrays by their names. A gradient is None where nobody needs it (`dx` of the first layer, `dweight` of a frozen
    one). `dx_before` is what a layer that declares `adds_gradient` adds to `dx`, or None. The gradients are there for
    training, derived arrays for inference. The layer's `bind_...` may add attributes of its own, under other names:
    what is bound here cannot be bound anew.

    Parameters
    ----------
    xs, dxs : sequences of array, and of array or None
    arrays : mapping of name to array or None
        Everything else.
    dx_before : array, optional
    """

    xs: tuple[npt.NDArray[Any], ...]
    dxs: tuple[npt.NDArray[Any] | None, ...]
    dx_before: npt.NDArray[Any] | None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        xs: Sequence[npt.NDArray[Any]],
        dxs: Sequence[npt.NDArray[Any] | None] | None = None,
        arrays: Mapping[str, npt.NDArray[Any] | None] | None = None,
        dx_before: npt.NDArray[Any] | None = None,
    ) -> None:
        bound: dict[str, Any] = {"xs": tuple(xs), "dxs": tuple(dxs) if dxs is not None else (None,) * len(xs)}
        if len(bound["xs"]) == 1:
            bound["x"], bound["dx"] = bound["xs"][0], bound["dxs"][0]
        bound["dx_before"] = dx_before
        for name, each in (arrays or {}).items():
            if name in bound:
                raise ValueError(f"{name}: expected one array of this name in a layer, got two")
            bound[name] = each
        self.__dict__.update(bound)
        self.__dict__["_bound"] = frozenset(bound)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._bound:
            raise AttributeError(f"{name} is bound already: write into the array, or give what you add another name")
        self.__dict__[name] = value


class Example:
    """Inputs and layer arguments that the contract tests run.

    `Example((4, 3, 8, 8), out_channels=5, kernel_size=3)`; several inputs: `Example((2, 3), (2, 3))`. An input of
    integers or booleans is a `Spec`: `Example(Spec((4, 7), "int64"), count=10)`; integers are drawn from 0 to `high`,
    which is not reached, booleans are True in two of three places.
    """

    def __init__(
        self, *inputs: Shape | Spec, x: Shape | Spec | None = None, high: int | None = None, **arguments: Any
    ) -> None:
        given = (*inputs, x) if x is not None else inputs
        self.inputs: tuple[Spec, ...] = tuple(each if isinstance(each, Spec) else Spec(each) for each in given)
        self.high = 2 if high is None else high
        self.arguments = arguments

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the inputs."""
        return tuple(each.shape for each in self.inputs)

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f"{', '.join(map(str, self.shapes))}{arguments}"


@dataclass(frozen=True)
class Layer:
    """Base of all layers. Calling a layer on nodes gives the node of its output."""

    name: str | None = field(default=None, kw_only=True)

    prefix: ClassVar[str] = ""  # automatic names are the prefix and a number: "conv1"
    trains: ClassVar[bool] = True  # False: stands in graphs for inference only, and has neither forward nor backward
    derives_in_training: ClassVar[bool] = False  # True: its derived arrays are there in training too
    examples: ClassVar[list[Example]] = []

    def __call__(self, *inputs: Node | Sequence[Node]) -> Any:
        """Return the node of the output; a named tuple of nodes where the layer has several outputs.

        One layer object called several times shares its parameters and state.

        Raises
        ------
        TypeError
            What is no node.
        ValueError
            Inputs that do not fit, or parameters whose shape would depend on a free axis.
        """
        nodes: list[Any] = []
        for each in inputs:
            nodes.extend(each if isinstance(each, (list, tuple)) else [each])
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            received = ", ".join(type(node).__name__ for node in nodes) or "nothing"
            raise TypeError(f"{type(self).__name__}: expected nodes (from Input or from other layers), got {received}")
        outputs = self._infer_outputs([node.spec for node in nodes])
        first = Node(self, tuple(nodes), next(iter(outputs.values())), self.name)
        if len(outputs) == 1:
            return first
        names = list(outputs)
        others = [Node(self, tuple(nodes), outputs[name], None, output=name, call=first) for name in names[1:]]
        kind: Any = namedtuple(f"{type(self).__name__}Outputs", names)
        return kind(first, *others)

    def _infer_outputs(self, inputs: Sequence[Spec]) -> dict[str, Spec]:
        """Return the outputs without batch axis, None where an axis follows from a free axis of the inputs."""
        small = large = self.declare(*(_with_batch(each, FREE_SIZES[0]) for each in inputs))
        if any(None in each.shape for each in inputs):
            large = self.declare(*(_with_batch(each, FREE_SIZES[1]) for each in inputs))
        for name, buffer in (*small.params.items(), *small.state.items()):
            if buffer.shape != {**large.params, **large.state}[name].shape:
                raise ValueError(
                    f"{type(self).__name__}: expected an input whose sizes that {name} depends on are known, got "
                    f"{', '.join(str(each.shape) for each in inputs)} with free axes (None); give Input these sizes, "
                    "or put a layer in front that takes the free axes away, such as GlobalAvgPool()"
                )
        return {
            name: Spec(_free(spec.shape[1:], large.outputs[name].shape[1:]), spec.dtype, spec.gradient)  # type: ignore[arg-type]
            for name, spec in small.outputs.items()
        }

    def declare(self, *inputs: Spec) -> Declaration:
        """Name every array for these inputs, batch axis first; ValueError for what does not fit."""
        raise TypeError(f"{type(self).__name__} does not define declare")

    def flops(self, *shapes: Shape) -> int:
        """Multiplications and additions of one forward call, where they are what its time goes into; else 0."""
        return 0

    def algorithms(self, *shapes: Shape, dtype: np.dtype) -> Mapping[str, str]:
        """Name what is chosen for these inputs, by what it makes: "forward", "input gradient" and so on. For people."""
        return {}

    def bind_forward(self, t: Tensors) -> None:
        """Choose and slice for `forward`: what every call would otherwise do anew. For training only."""

    def bind_backward(self, t: Tensors) -> None:
        """Choose and slice for `backward`, after `bind_forward`. For training only."""

    def bind_infer(self, t: Tensors) -> None:
        """Choose and slice for `derive` and `infer`. For inference only; there are no gradients in t."""
        self.bind_forward(t)

    def forward(self, t: Tensors) -> None:
        """Write the outputs, the saved arrays and the new state from the inputs and parameters."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def derive(self, t: Tensors) -> None:
        """Write all derived arrays from the parameters and the state."""

    def infer(self, t: Tensors) -> None:
        """Write the outputs alone, as for a trained net: neither state nor gradients nor derived arrays change."""
        self.forward(t)

    def backward(self, t: Tensors) -> None:
        """Write the gradients of the inputs (those that are not None) and of the parameters."""
        raise TypeError(f"{type(self).__name__} does not define backward")


class Node(Sealed, sealed=True):
    """An output of a layer, before there are arrays. Made by calling a layer on nodes; fixed then.

    Attributes
    ----------
    shape : tuple of int or None
        Without the batch axis; None for an axis that each batch has its own size of.
    dtype : str or None
        None: the model's float type.
    layer : Layer or None
        None for an `Input`.
    inputs : tuple of Node
    output : str
        Which output of the layer it is; "" for the first.
    call : Node
        The node of the first output of the same call; itself where it is that.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        "shape": "make another Input(shape), and call the layers on it",
        "dtype": "make another Input(shape, dtype=...), and call the layers on it",
        "name": 'give it to the layer or the input: Dense(10, name="head"), Input(shape, name="image")',
        "layer": "call another layer on node.inputs",
        "inputs": "call the layer on other nodes",
        "trainable": 'write model.freeze("conv*")',
    }

    layer: Layer | None
    inputs: tuple[Node, ...]
    spec: Spec
    name: str | None
    output: str
    call: Node
    created: int

    def __init__(
        self,
        layer: Layer | None,
        inputs: tuple[Node, ...],
        spec: Spec,
        name: str | None,
        output: str = "",
        call: Node | None = None,
    ) -> None:
        self.layer = layer
        self.inputs = inputs
        self.spec = spec
        self.name = name
        self.output = output
        self.call = self if call is None else call
        self.created = next(_created)

    @property
    def shape(self) -> FreeShape:
        return self.spec.shape

    @property
    def dtype(self) -> str | None:
        return self.spec.dtype

    def __copy__(self) -> Node:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What leads to a node comes first, so that deep nets are no deep recursion."""
        return {"before": _ancestors(self), **vars(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: each for name, each in state.items() if name != "before"})
        while next(_created) < self.created:  # what is built on it comes after it, also in another process
            pass

    def __repr__(self) -> str:
        kind = "Input" if self.layer is None else type(self.layer).__name__
        kind += f".{self.output}" if self.output else ""
        return f"<Node {self.name or ''} {kind} {self.shape}>".replace("  ", " ")


def _ancestors(node: Node) -> list[Node]:
    """Return the nodes that lead to a node, in the order in which they were made."""
    found: dict[Node, None] = {}
    waiting = [node]
    while waiting:
        each = waiting.pop()
        for other in (*each.inputs, each.call):
            if other is not node and other not in found:
                found[other] = None
                waiting.append(other)
    return sorted(found, key=lambda each: each.created)


def only_input(layer: Layer, inputs: Sequence[Spec], ndim: int | None = None, axes: str = "") -> Shape:
    """Return the shape of a layer's only input, of floats; a ValueError names the layer and what it expected."""
    name = type(layer).__name__
    if len(inputs) != 1:
        raise ValueError(f"{name}: expected one input, got {len(inputs)}")
    (shape,) = float_shapes(layer, inputs)
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"{name}: expected an input of shape {axes}, got {describe(shape)}")
    return shape


def float_shapes(layer: Layer, inputs: Iterable[Spec]) -> tuple[Shape, ...]:
    """Return the shapes of inputs that are to be floats; a ValueError names the layer and what came."""
    inputs = tuple(inputs)
    for each in inputs:
        if not each.is_float:
            raise ValueError(f"{type(layer).__name__}: expected an input of floats, got {each.dtype}")
    return tuple(each.shape for each in inputs)


def describe(shape: Sequence[int | None]) -> str:
    """Print a shape with the batch axis as N."""
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"


def _free(small: Shape, large: Shape) -> FreeShape:
    """Return the sizes that two shapes have in common, None for the others."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))


def _with_batch(spec: Spec, free: int) -> Spec:
    """Put the typical batch axis in front, and a size for each free axis."""
    return Spec((TYPICAL_BATCH, *(free if size is None else size for size in spec.shape)), spec.dtype, spec.gradient)
