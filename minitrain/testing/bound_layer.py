"""Arrays for one layer without a plan, and the calls of the contract on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.layer import Layer, Spec, Tensors
from minitrain.testing.drawing import Inputs, as_example, draw_input, draw_state, draw_values, poison
from nbnorm.jit.arrays import Array

__all__ = ["READ_BY_FORWARD", "BoundLayer"]

READ_BY_FORWARD = ("inputs", "params")
WRITTEN_BY_FORWARD = ("outputs", "saved", "scratch")
WRITTEN_BY_BACKWARD = ("input_gradients", "param_gradients", "backward_scratch")


class BoundLayer:
    """Arrays for one layer, in groups of name to array, and the calls of the contract on them.

    Parameters
    ----------
    layer : Layer
    inputs : Example, or sequence of shapes and Specs
    dtype : numpy dtype
        Of everything that does not say its own.
    training : bool
        Whether there are gradients; never for a layer that does not train.
    left_out : collection of str
        Gradients that are not wanted ("dx1", "dweight"): they are None.
    seed : int

    Attributes
    ----------
    groups : "inputs", "params", "outputs" and so on to arrays by the layer's names
        Whoever puts another array there calls `bind`.
    least : bool
        Whether the rubbish that integers hold before they are written is the least one; the largest unless set.
    tensors, inference_tensors : Tensors
        What the layer is given in training and in inference.
    """

    def __init__(
        self,
        layer: Layer,
        inputs: Inputs,
        dtype: npt.DTypeLike = "float64",
        training: bool = True,
        left_out: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        self.layer, self.dtype, self.training = layer, np.dtype(dtype), training and layer.trains
        self.example = as_example(inputs)
        self.declaration = declared = layer.declare(*self.example.inputs)
        self.dx_before: Array | None = None
        self.least = False
        rng = np.random.default_rng(seed)
        xs: dict[str, Array] = {}
        for index, spec in enumerate(self.example.inputs):
            computed = f"x{index}" in self.example.computed
            xs[f"x{index}"] = self._empty(spec) if computed else draw_input(rng, spec, self.dtype, self.example.high)
        self.groups: dict[str, dict[str, Array]] = {
            "inputs": xs,
            "params": {
                name: draw_values(rng, each.shape).astype(each.dtype or dtype) for name, each in declared.params.items()
            },
            "state": {name: draw_state(rng, buffer, self.dtype) for name, buffer in declared.state.items()},
            "carried": {name: np.zeros(spec.shape, spec.dtype or dtype) for name, spec in declared.carried.items()},
            "saved": {name: self._empty(spec) for name, spec in declared.saved.items()},
            "scratch": {name: self._empty(spec) for name, spec in declared.scratch.items()},
            "derived": {name: self._empty(spec) for name, spec in declared.derived.items()},
            "outputs": {
                name: xs[declared.same[name]].reshape(spec.shape) if name in declared.same else self._empty(spec)
                for name, spec in declared.outputs.items()
            },
        }
        if self.training:
            self._add_gradients(rng, left_out)
        self.compute_inputs()
        self.first_state = {name: value.copy() for name, value in self.groups["state"].items()}
        self.bind()

    def _empty(self, spec: Spec) -> Array:
        return np.empty(spec.shape, spec.dtype or self.dtype)

    def _add_gradients(self, rng: np.random.Generator, left_out: Collection[str]) -> None:
        declared = self.declaration
        if not self.layer.learns:
            left_out = {*left_out, *(f"d{name}" for name in declared.params)}
        dys = {
            f"d{name}": draw_values(rng, spec.shape).astype(spec.dtype or self.dtype)
            for name, spec in declared.outputs.items() if spec.gradient
        }  # fmt: skip
        dxs = {}
        for index, spec in enumerate(self.example.inputs):
            name = f"dx{index}"
            if spec.gradient and name not in left_out:
                same = declared.same.get(name)
                dxs[name] = self._empty(spec) if same is None else dys[same].reshape(spec.shape)
        self.groups["output_gradients"] = dys
        self.groups["input_gradients"] = dxs
        self.groups["param_gradients"] = {
            f"d{name}": np.empty_like(value)
            for name, value in self.groups["params"].items()
            if f"d{name}" not in left_out
        }
        self.groups["backward_scratch"] = {name: self._empty(s) for name, s in declared.backward_scratch.items()}

    @property
    def xs(self) -> tuple[Array, ...]:
        """The inputs."""
        return tuple(self.groups["inputs"].values())

    def bind(self) -> None:
        """Let the layer choose and slice: once more after another array was put into the groups."""
        if self.training:
            self.tensors = self._new_tensors(training=True)
            self.layer.bind_forward(self.tensors)
            self.layer.bind_backward(self.tensors)
        self.inference_tensors = self._new_tensors(training=False)
        self.layer.bind_infer(self.inference_tensors)
        if not self.training:
            self.tensors = self.inference_tensors

    def _new_tensors(self, training: bool) -> Tensors:
        names = ["params", "state", "carried", "saved", "scratch", "outputs"]
        if not training or self.layer.derives_in_training:
            names.append("derived")
        bound: dict[str, Any] = {}
        if training:
            bound = dict.fromkeys(f"d{name}" for name in (*self.declaration.outputs, *self.declaration.params))
            names += ["output_gradients", "param_gradients", "backward_scratch"]
        for name in names:
            bound |= self.groups[name]
        ys = list(self.groups["outputs"].values())
        if not training:
            return Tensors(self.xs, None, bound, ys=ys)
        dxs = [self.groups["input_gradients"].get(f"dx{index}") for index in range(len(self.xs))]
        return Tensors(self.xs, dxs, bound, self.dx_before, ys)

    # ------------------------------------------------------------------------------------------------------ the calls

    def compute_inputs(self) -> None:
        """Compute the inputs that follow from the others."""
        inputs, computed = self.groups["inputs"], self.example.computed
        given = [array for name, array in inputs.items() if name not in computed]
        for name, function in computed.items():
            inputs[name][...] = function(*given)

    def reset(self) -> None:
        """Set the state to its first content, and what is carried to zeros."""
        for name, value in self.first_state.items():
            self.groups["state"][name][...] = value
        for carried in self.groups["carried"].values():
            carried.fill(0)

    def forward(self) -> dict[str, Array]:
        """Run forward from the first state, over poisoned memory, with inputs that are computed anew."""
        self.reset()
        if self.layer.derives_in_training:
            self._derive(self.tensors)
        return self.forward_again()

    def forward_again(self) -> dict[str, Array]:
        """Run forward from the state as it is."""
        self.poison(*WRITTEN_BY_FORWARD)
        self.compute_inputs()
        self.layer.forward(self.tensors)
        return self.groups["outputs"]

    def derive(self) -> None:
        """Derive for inference, over poisoned memory."""
        self._derive(self.inference_tensors)

    def _derive(self, tensors: Tensors) -> None:
        self.poison("derived")
        self.layer.derive(tensors)

    def infer(self) -> dict[str, Array]:
        """Infer from newly derived arrays, nothing carried, over poisoned memory."""
        for carried in self.groups["carried"].values():
            carried.fill(0)
        self.derive()
        return self.infer_again()

    def infer_again(self) -> dict[str, Array]:
        """Infer from what was derived and carried before."""
        self.poison(*WRITTEN_BY_FORWARD)
        self.layer.infer(self.inference_tensors)
        return self.groups["outputs"]

    def backward(self) -> dict[str, Array]:
        """Run backward with everything poisoned that it must not read; inputs and outputs are put back afterwards."""
        hidden = list(self._not_read_backward())
        kept = [array.copy() for array in hidden]
        for array in hidden:
            self._hide(array)
        self.poison("scratch", *WRITTEN_BY_BACKWARD)
        self.layer.backward(self.tensors)
        for array, content in zip(hidden, kept, strict=True):
            array[...] = content
        return self.groups["input_gradients"] | self.groups["param_gradients"]

    def _not_read_backward(self) -> Iterable[Array]:
        """The inputs and outputs whose memory backward may not look at."""
        declared = self.declaration
        named = {name: declared.reads_input(index) for index, name in enumerate(self.groups["inputs"])}
        named |= {name: name in declared.backward_reads for name in self.groups["outputs"]}
        arrays = self.groups["inputs"] | self.groups["outputs"]
        read = [arrays[name] for name, is_read in named.items() if is_read]
        for name, is_read in named.items():
            if not is_read and not any(np.may_share_memory(arrays[name], each) for each in read):
                read.append(arrays[name])  # an output that is the input is hidden once
                yield arrays[name]

    def _hide(self, array: Array) -> None:
        """Put something else there; integers stay in their range, so that who uses them as an index does not crash."""
        if array.dtype.kind in "iu" and any(array is x for x in self.xs):
            array[...] = self.example.high - 1 - array
        elif array.dtype.kind == "b":
            np.logical_not(array, out=array)
        else:
            poison(array)

    def poison(self, *groups: str) -> None:
        """Fill with NaN, with the largest integer, or with True; not what is another array's memory."""
        for group in groups:
            for name, array in self.groups.get(group, {}).items():
                if name not in self.declaration.same:
                    poison(array, self.least)

    def copies(self, *groups: str) -> dict[tuple[str, str], Array]:
        """Copy groups that there are, by group and name."""
        return {(group, name): array.copy() for group in groups for name, array in self.groups.get(group, {}).items()}
