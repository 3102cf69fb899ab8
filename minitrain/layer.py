"""The layer contract: what a layer declares, what it is given, what it may touch.

1. A layer is a frozen dataclass of hyperparameters. It owns no arrays.
2. `declare` takes the shapes of the inputs, batch axis first, and names every buffer by kind. Shape errors are raised
   there, in words.
3. `bind_forward`, `bind_backward` and `bind_infer` are given the arrays of a `Tensors`, once: they choose kernels, make
   views, and bind calls to arrays. `forward`, `backward` and `infer` then compute: they choose nothing. They overwrite
   what they write, never change what they read (where a gradient may take an array's place, the layer says so:
   `in_place`), and allocate nothing that grows with the batch.
4. `infer` is `forward` unless the layer says otherwise. What it needs of the parameters and the state in another form
   (weights in the order of a kernel, a batch norm folded into them) is a `derived` array, which `derive` writes.
   Inference runs `derive` before `infer` when a parameter or state has changed: a layer need not ask.
5. `examples` lists input shapes (and arguments) that the contract tests run. A layer without examples fails the tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from minitrain.initializers import Constant

__all__ = ["Buffer", "Declaration", "Example", "Layer", "Node", "Shape", "Tensors", "array", "ones", "weight", "zeros"]

Shape = tuple[int, ...]
Fill = Callable[[np.random.Generator, Shape, int, int], npt.NDArray[Any]]

TYPICAL_BATCH = 2  # the smallest batch that batch norm accepts: shapes are inferred with it
_created = itertools.count()


@dataclass(frozen=True)
class Buffer:
    """Shape, dtype and first content of one array of a layer.

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


def array(shape: Shape, dtype: str | None = None) -> Buffer:
    """Declare an array that is written before it is read."""
    return Buffer(shape, dtype)


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
    """Every array of a layer for given input shapes.

    Attributes
    ----------
    outputs : name to shape, batch axis first
        The first one is what other layers see under the layer's own name; it is called "y".
    params : learned arrays; the gradient of `weight` is bound as `dweight`.
    side_outputs : arrays without a gradient that forward writes for layers that take them as inputs: what follows from
        an output, and is cheaper to find while that is written. "conv1.moments" is the value of conv1's `moments`.
    side_inputs : which inputs ("x1") are side outputs of other layers; they have no gradient.
    state : arrays that are kept and saved with the model but never optimized, such as running statistics.
    saved : arrays that forward writes and backward reads.
    scratch : working space of one call of `forward` or `infer`; holds rubbish before it.
    backward_scratch : working space of one call of `backward`.
    derived : arrays that `derive` writes from the parameters and the state alone, and `infer` reads. They are kept
        between calls, for plans of any batch size: neither shape nor content depends on the batch. There in inference.
    backward_reads : which of "x" (all inputs), "x0", "x1" ... (one of several) and the outputs' names backward needs.
        Anything not named here may have been overwritten by then. Gradients of the outputs, parameters, state and saved
        arrays are always there.
    infer_reads_saved : `infer` uses the saved arrays too (as `forward` does). False: they are not bound for inference.
    output_is_view : the output is the input under another shape; the layer does no work in either direction.
    gradients_are_views : each input's gradient is the output's gradient itself; backward has nothing to do.
    adds_gradient : the layer has one input, and `backward` adds `t.dx_before` to its gradient, where that is not None:
        what the other layers that read the input have found already.
    in_place : for a gradient of an input ("dx0"), what it may share its memory with, best first: an input of the same
        shape ("x1"), or the gradient of the output ("dy"). A layer that allows it reads each element of that before it
        writes there.
    """

    outputs: Mapping[str, Shape]
    params: Mapping[str, Buffer] = field(default_factory=dict)
    side_outputs: Mapping[str, Buffer] = field(default_factory=dict)
    side_inputs: tuple[str, ...] = ()
    state: Mapping[str, Buffer] = field(default_factory=dict)
    saved: Mapping[str, Buffer] = field(default_factory=dict)
    scratch: Mapping[str, Buffer] = field(default_factory=dict)
    backward_scratch: Mapping[str, Buffer] = field(default_factory=dict)
    derived: Mapping[str, Buffer] = field(default_factory=dict)
    backward_reads: tuple[str, ...] = ()
    infer_reads_saved: bool = True
    output_is_view: bool = False
    gradients_are_views: bool = False
    adds_gradient: bool = False
    in_place: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def reads_input(self, index: int) -> bool:
        """Return whether backward needs this input."""
        return "x" in self.backward_reads or f"x{index}" in self.backward_reads


class Tensors:
    """The arrays of one layer in one plan, as attributes.

    `x`, `dx`: the only input and its gradient; `xs`, `dxs`: all of them, as tuples. `y`, `dy` and so on for every
    declared output; `weight`, `dweight` for a parameter called weight; state, saved, scratch and derived arrays by
    their names. A gradient is None where nobody needs it (`dx` of the first layer). `dx_before` is what a layer that
    declares `adds_gradient` adds to `dx`, or None. The gradients are there for training, derived arrays for inference.
    The layer's `bind_...` may add attributes of its own.
    """

    xs: tuple[npt.NDArray[Any], ...]
    dxs: tuple[npt.NDArray[Any] | None, ...]
    dx_before: npt.NDArray[Any] | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def bind_inputs(self, xs: Sequence[npt.NDArray[Any]], dxs: Sequence[npt.NDArray[Any] | None] | None = None) -> None:
        """Set `xs` and `dxs`, and `x` and `dx` where there is one input."""
        self.xs = tuple(xs)
        self.dxs = tuple(dxs) if dxs is not None else (None,) * len(self.xs)
        if len(self.xs) == 1:
            self.x, self.dx = self.xs[0], self.dxs[0]


class Example:
    """Input shapes and layer arguments that the contract tests run.

    `Example((4, 3, 8, 8), out_channels=5, kernel_size=3)`; several inputs: `Example((2, 3), (2, 3))`.
    """

    def __init__(self, *shapes: Shape, x: Shape | None = None, **arguments: Any) -> None:
        self.shapes: tuple[Shape, ...] = (*shapes, x) if x is not None else shapes
        self.arguments = arguments

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return f"{', '.join(map(str, self.shapes))}{arguments}"


@dataclass(frozen=True)
class Layer:
    """Base of all layers. Calling a layer on nodes gives the node of its output."""

    name: str | None = field(default=None, kw_only=True)

    prefix: ClassVar[str] = ""  # automatic names are the prefix and a number: "conv1"
    trains: ClassVar[bool] = True  # False: stands in graphs for inference only, and has neither forward nor backward
    examples: ClassVar[list[Example]] = []

    def __call__(self, *inputs: Node | Sequence[Node]) -> Node:
        nodes: list[Any] = []
        for each in inputs:
            nodes.extend(each if isinstance(each, (list, tuple)) else [each])
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            received = ", ".join(type(node).__name__ for node in nodes) or "nothing"
            raise TypeError(f"{type(self).__name__}: expected nodes (from Input or from other layers), got {received}")
        declaration = self.declare(*((TYPICAL_BATCH, *node.shape) for node in nodes))
        return Node(self, tuple(nodes), next(iter(declaration.outputs.values()))[1:], self.name)

    def declare(self, *shapes: Shape) -> Declaration:
        """Name every buffer for inputs of these shapes, batch axis first; ValueError for shapes that do not fit."""
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


class Node:
    """The output of a layer, before there are arrays. Made by calling a layer on nodes.

    Attributes
    ----------
    shape : tuple of int
        Without the batch axis.
    layer : Layer or None
        None for an `Input`.
    inputs : tuple of Node
    """

    def __init__(self, layer: Layer | None, inputs: tuple[Node, ...], shape: Shape, name: str | None) -> None:
        self.layer = layer
        self.inputs = inputs
        self.shape = shape
        self.name = name
        self.created = next(_created)

    def __repr__(self) -> str:
        kind = "Input" if self.layer is None else type(self.layer).__name__
        return f"<Node {self.name or ''} {kind} {self.shape}>".replace("  ", " ")


def only_input(layer: Layer, shapes: tuple[Shape, ...], ndim: int | None = None, axes: str = "") -> Shape:
    """Return the shape of a layer's only input; a ValueError names the layer and what it expected."""
    name = type(layer).__name__
    if len(shapes) != 1:
        raise ValueError(f"{name}: expected one input, got {len(shapes)}")
    if ndim is not None and len(shapes[0]) != ndim:
        raise ValueError(f"{name}: expected an input of shape {axes}, got {describe(shapes[0])}")
    return shapes[0]


def describe(shape: Shape) -> str:
    """Print a shape with the batch axis as N."""
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"
