"""Arrays for one layer without a plan, and the calls of the contract on them."""

import numpy as np

from minitrain.layer import Spec, Tensors
from minitrain.layers.fused import FrozenConv2dBatchNorm

__all__ = ["READ_BY_FORWARD", "WRITTEN_BY_BACKWARD", "WRITTEN_BY_FORWARD", "BoundLayer", "moments", "poison"]

READ_BY_FORWARD = ("inputs", "params")
WRITTEN_BY_FORWARD = ("outputs", "saved", "scratch")
WRITTEN_BY_BACKWARD = ("input_gradients", "param_gradients", "backward_scratch")


class BoundLayer:
    """Arrays for one layer, in groups of name to array, and the calls of the contract on them.

    `left_out` names the gradients that are not wanted ("dx1", "dweight"): they are None.
    """

    def __init__(self, layer, inputs, dtype="float64", training=True, left_out=(), seed=0):
        specs = [each if isinstance(each, Spec) else Spec(each) for each in inputs]
        training = training and layer.trains
        self.layer, self.dtype, self.training = layer, np.dtype(dtype), training
        self.is_frozen = isinstance(layer, FrozenConv2dBatchNorm)  # derives in training, and has no gradients of params
        self.declaration = declared = layer.declare(*specs)
        self.unwanted = []  # gradients of parameters that are left out
        rng = np.random.default_rng(seed)
        inputs = {f"x{i}": self._values(rng, spec.shape) for i, spec in enumerate(specs)}
        side = [f"x{i}" for i, spec in enumerate(specs) if not spec.gradient]
        self.side_inputs = {name: inputs.pop(name).astype("float64") for name in side}
        self.groups = {
            "inputs": inputs,
            "params": {name: self._values(rng, buffer.shape) for name, buffer in declared.params.items()},
            "state": {name: self._state(rng, buffer) for name, buffer in declared.state.items()},
            "saved": {name: self._empty(buffer) for name, buffer in declared.saved.items()},
            "scratch": {name: self._empty(buffer) for name, buffer in declared.scratch.items()},
            "derived": {name: self._empty(buffer) for name, buffer in declared.derived.items()},
        }
        xs = list(self.groups["inputs"].values())
        outputs = {name: self._empty(spec) for name, spec in declared.outputs.items()}
        if "y" in declared.same:
            outputs = {"y": xs[0].reshape(declared.outputs["y"].shape)}
        self.groups["outputs"] = outputs
        if training:
            self._add_gradients(rng, xs, left_out)
        self.dx_before = None
        self.first_state = {name: value.copy() for name, value in self.groups["state"].items()}
        self.bind()

    def _values(self, rng, shape):
        """Values in random order, about 1 in size, none zero and no two equal: no finite difference meets a kink.

        All are float32 numbers, so that both dtypes can be given the same.
        """
        size = int(np.prod(shape))
        values = np.linspace(-2.0, 2.0, size + 1 + size % 2)[:size] + 0.1 / (size + 1)
        return rng.permutation(values).reshape(shape).astype(np.float32).astype(self.dtype)

    def _state(self, rng, buffer):
        content = np.asarray(buffer.fill(rng, buffer.shape, buffer.fan_in, buffer.fan_out))
        if buffer.dtype is None:  # a running mean or variance that has seen something
            content = (content + rng.uniform(0.1, 0.9, buffer.shape)).astype(np.float32)
        return content.astype(self._dtype(buffer))

    def _dtype(self, buffer):
        return self.dtype if buffer.dtype is None else np.dtype(buffer.dtype)

    def _empty(self, buffer):
        return np.empty(buffer.shape, self._dtype(buffer))

    def _add_gradients(self, rng, xs, left_out):
        declared = self.declaration
        dys = {f"d{name}": self._values(rng, spec.shape) for name, spec in declared.outputs.items() if spec.gradient}
        if "dx0" in declared.same:
            dxs = {f"dx{i}": dys["dy"].reshape(x.shape) for i, x in enumerate(xs)}
        else:
            dxs = {f"dx{i}": np.empty_like(x) for i, x in enumerate(xs)}  # side inputs are the last
        self.groups["output_gradients"] = dys
        dparams = {f"d{name}": np.empty_like(param) for name, param in self.groups["params"].items()}
        left_out = {*left_out, *(dparams if self.is_frozen else ())}
        self.groups["input_gradients"] = {name: dx for name, dx in dxs.items() if name not in left_out}
        self.groups["param_gradients"] = {name: dparam for name, dparam in dparams.items() if name not in left_out}
        self.unwanted = [name for name in dparams if name in left_out]
        self.groups["backward_scratch"] = {n: self._empty(b) for n, b in declared.backward_scratch.items()}

    def bind(self):
        """Let the layer choose and slice: once more after another array was put into the groups."""
        self.tensors = self._new_tensors(list(self.groups["inputs"].values()))
        if self.training:
            self.layer.bind_forward(self.tensors)
            self.layer.bind_backward(self.tensors)
        self.layer.bind_infer(self.tensors)

    def _new_tensors(self, xs):
        dxs = self.groups.get("input_gradients", {})
        xs = [*xs, *self.side_inputs.values()]
        bound = {f"d{name}": None for name in self.declaration.outputs} if self.training else {}
        for group, arrays in self.groups.items():
            if group not in ("inputs", "input_gradients"):
                bound |= arrays
        bound |= dict.fromkeys(self.unwanted)
        return Tensors(xs, [dxs.get(f"dx{i}") for i in range(len(xs))], bound, self.dx_before)

    @property
    def gradients_are_own(self):
        """Whether backward writes gradients of inputs, rather than passing on that of the output."""
        return "dx0" not in self.declaration.same

    def poison(self, *groups):
        """Fill with NaN, or with the largest integer."""
        for group in groups:
            owned = {"outputs": "y" not in self.declaration.same, "input_gradients": self.gradients_are_own}
            if owned.get(group, True):
                for array in self.groups[group].values():
                    poison(array)

    def restore_state(self):
        for name, value in self.first_state.items():
            self.groups["state"][name][...] = value

    def forward(self):
        """Forward from the first state, over poisoned memory."""
        self.restore_state()
        if self.is_frozen:
            self.derive()
        self.poison(*WRITTEN_BY_FORWARD)
        for side in self.side_inputs.values():
            side[...] = moments(self.groups["inputs"]["x0"])
        self.layer.forward(self.tensors)
        return self.groups["outputs"]

    def derive(self):
        self.poison("derived")
        self.layer.derive(self.tensors)

    def infer(self):
        """Infer from newly derived arrays, over poisoned memory."""
        self.derive()
        return self.infer_again()

    def infer_again(self):
        self.poison(*WRITTEN_BY_FORWARD)
        self.layer.infer(self.tensors)
        return self.groups["outputs"]

    def backward(self):
        """Backward with everything poisoned that it must not read; inputs and outputs are put back afterwards."""
        reads = self.declaration.backward_reads
        inputs = self.groups["inputs"].values()
        hidden = [array for index, array in enumerate(inputs) if not self.declaration.reads_input(index)]
        hidden += [array for name, array in self.groups["outputs"].items() if name not in reads]
        if "y" in self.declaration.same:
            hidden = []
        kept = [array.copy() for array in hidden]
        for array in hidden:
            poison(array)
        self.poison("scratch", *WRITTEN_BY_BACKWARD)
        self.layer.backward(self.tensors)
        for array, content in zip(hidden, kept, strict=True):
            array[...] = content
        return self.groups["input_gradients"] | self.groups["param_gradients"]

    def copies(self, *groups):
        return {(group, name): array.copy() for group in groups for name, array in self.groups[group].items()}


def moments(x):
    """Mean and biased variance of each channel of x (N, C, ...), which is what all side inputs are."""
    values = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype("float64")
    return values.mean(axis=1), values.var(axis=1)


def poison(array):
    array[...] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max
