"""Binds one layer to arrays of its own, without a plan, and holds it against the contract of minitrain/layer.py."""

import tracemalloc
from contextlib import contextmanager

import numba
import numpy as np

from minitrain.layer import Tensors
from nbnorm import _jit

STEP = 1e-6  # of the central differences
POSITIONS = 16  # elements of an array that are moved one by one; then all of them are moved along one direction
PEAK_BYTES = 16_000  # for boxed arguments and working space of fixed size, whatever the batch

READ_BY_FORWARD = ("inputs", "params")
WRITTEN_BY_FORWARD = ("outputs", "saved", "scratch")
WRITTEN_BY_BACKWARD = ("input_gradients", "param_gradients", "backward_scratch")


class BoundLayer:
    """Arrays for one layer, in groups of name to array, and the calls of the contract on them.

    `wanted` says for each input whether its gradient is wanted (all, unless given).
    """

    def __init__(self, layer, shapes, dtype="float64", training=True, wanted=None, seed=0):
        training = training and layer.trains
        self.layer, self.dtype, self.training = layer, np.dtype(dtype), training
        self.declaration = declared = layer.declare(*shapes)
        rng = np.random.default_rng(seed)
        self.groups = {
            "inputs": {f"x{i}": self._values(rng, shape) for i, shape in enumerate(shapes)},
            "params": {name: self._values(rng, buffer.shape) for name, buffer in declared.params.items()},
            "state": {name: self._state(rng, buffer) for name, buffer in declared.state.items()},
            "saved": {
                name: self._empty(buffer)
                for name, buffer in declared.saved.items()
                if training or declared.infer_reads_saved
            },
            "scratch": {name: self._empty(buffer) for name, buffer in declared.scratch.items()},
            "derived": {name: self._empty(buffer) for name, buffer in declared.derived.items()},
        }
        xs = list(self.groups["inputs"].values())
        outputs = {name: np.empty(shape, self.dtype) for name, shape in declared.outputs.items()}
        if declared.output_is_view:
            outputs = {"y": xs[0].reshape(declared.outputs["y"])}
        self.groups["outputs"] = outputs
        if training:
            self._add_gradients(rng, xs, wanted or [True] * len(xs))
        self.first_state = {name: value.copy() for name, value in self.groups["state"].items()}
        self.tensors = self._bind(xs)

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

    def _add_gradients(self, rng, xs, wanted):
        declared = self.declaration
        dys = {f"d{name}": self._values(rng, shape) for name, shape in declared.outputs.items()}
        if declared.gradients_are_views or declared.output_is_view:
            dxs = {f"dx{i}": dys["dy"].reshape(x.shape) for i, x in enumerate(xs)}
        else:
            dxs = {f"dx{i}": np.empty_like(x) for i, x in enumerate(xs) if wanted[i]}
        self.groups["output_gradients"] = dys
        self.groups["input_gradients"] = dxs
        self.groups["param_gradients"] = {f"d{n}": np.empty_like(p) for n, p in self.groups["params"].items()}
        self.groups["backward_scratch"] = {n: self._empty(b) for n, b in declared.backward_scratch.items()}

    def _bind(self, xs):
        tensors = Tensors()
        dxs = self.groups.get("input_gradients", {})
        tensors.bind_inputs(xs, [dxs.get(f"dx{i}") for i in range(len(xs))])
        for group, arrays in self.groups.items():
            if group not in ("inputs", "input_gradients"):
                for name, array in arrays.items():
                    setattr(tensors, name, array)
        self.layer.prepare(tensors)
        return tensors

    @property
    def gradients_are_own(self):
        """Whether backward writes gradients of inputs, rather than passing on that of the output."""
        return not (self.declaration.gradients_are_views or self.declaration.output_is_view)

    def poison(self, *groups):
        """Fill with NaN, or with the largest integer."""
        for group in groups:
            owned = {"outputs": not self.declaration.output_is_view, "input_gradients": self.gradients_are_own}
            if owned.get(group, True):
                for array in self.groups[group].values():
                    poison(array)

    def restore_state(self):
        for name, value in self.first_state.items():
            self.groups["state"][name][...] = value

    def forward(self):
        """Forward from the first state, over poisoned memory."""
        self.restore_state()
        self.poison(*WRITTEN_BY_FORWARD)
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
        if self.declaration.output_is_view:
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


def poison(array):
    array[...] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max


@contextmanager
def serial_below(elements):
    """Choose the form of the kernels as if this were the size from which threads pay."""
    before, _jit.SERIAL_WORK = _jit.SERIAL_WORK, elements
    try:
        yield
    finally:
        _jit.SERIAL_WORK = before


# ------------------------------------------------------------------------------------------------------- the contract


def check_overwrites(bound):
    """Whatever the contract says is written is written: nothing of the poison is left."""
    for name, array in bound.forward().items():
        assert np.isfinite(array).all(), f"forward leaves {name} as it was, or reads memory that holds rubbish"
    for name, array in bound.groups["state"].items():
        assert array.dtype.kind != "f" or np.isfinite(array).all(), f"forward spoils {name}"
    for name, array in bound.backward().items():
        assert np.isfinite(array).all(), f"backward leaves {name} as it was, or reads what it does not declare"


def check_derives(layer, shapes, dtype="float64"):
    """Inference follows changed parameters and state; derived arrays come from these alone, whatever the batch."""
    bound = BoundLayer(layer, shapes, dtype)
    larger = BoundLayer(layer, [(3 * shape[0], *shape[1:]) for shape in shapes], dtype, training=False)
    other = BoundLayer(layer, shapes, dtype, training=False, seed=1)
    before = bound.infer()["y"].copy()
    for group in ("params", "state"):
        for name, array in other.groups[group].items():
            array[...] = array * 1.25
            bound.groups[group][name][...] = array
            larger.groups[group][name][...] = array
    for each in (bound, larger):
        kept = each.copies("inputs")
        each.poison("inputs")
        each.derive()
        for (group, name), content in kept.items():
            each.groups[group][name][...] = content
    other.derive()
    for name, array in other.groups["derived"].items():
        assert array.dtype.kind != "f" or np.isfinite(array).all(), f"derive leaves {name} as it was"
        for each in (bound, larger):
            assert same_bits(each.groups["derived"][name], array), f"{name} depends on more than parameters and state"
    for group, content in ((g, a) for g, a in bound.groups["inputs"].items()):
        other.groups["inputs"][group][...] = content
    after, expected = bound.infer_again()["y"], other.infer_again()["y"]
    assert same_bits(after, expected), "infer remembers former parameters or state"
    if bound.groups["params"]:
        assert not same_bits(after, before)


def check_reads_only(bound):
    """Nothing that is read is modified, in any of the four calls."""
    calls = [(bound.derive, (*READ_BY_FORWARD, "state")), (bound.infer_again, (*READ_BY_FORWARD, "state", "derived"))]
    if bound.training:
        calls = [
            (bound.forward, (*READ_BY_FORWARD, "output_gradients")),
            (bound.backward, (*READ_BY_FORWARD, "outputs", "output_gradients", "state", "saved")),
            *calls,
        ]
    for call, read in calls:
        before = bound.copies(*read)
        call()
        for (group, name), content in before.items():
            now = bound.groups[group][name]
            assert same_bits(content, now), f"{call.__name__} changes {name} ({group})"


def check_gradients(bound, seed=0):
    """Gradients of all inputs and parameters against central differences; float64."""
    rng = np.random.default_rng(seed)
    bound.forward()
    analytic = {name: array.copy() for name, array in bound.backward().items()}
    for group in READ_BY_FORWARD:
        for name, array in bound.groups[group].items():
            _check_gradient_of(bound, name, array, analytic["d" + name], rng)


def _check_gradient_of(bound, name, array, gradient, rng):
    directions = []
    for position in rng.permutation(array.size)[:POSITIONS]:
        direction = np.zeros(array.size)
        direction[position] = 1.0
        directions.append(direction)
    directions.append(rng.standard_normal(array.size))
    for direction in directions:
        direction = direction.reshape(array.shape)
        expected = _directional_derivative(bound, array, direction)
        got = float(np.vdot(gradient, direction))
        tolerance = 1e-6 * (1.0 + np.abs(gradient * direction).sum())
        assert abs(got - expected) <= tolerance, f"d{name}: expected {expected}, got {got}"


def _directional_derivative(bound, array, direction):
    """Derivative of sum(y dy) when `array` moves along `direction`."""
    first = array.copy()
    moved = []
    for sign in (1.0, -1.0):
        array[...] = first + sign * STEP * direction
        moved.append({name: y.copy() for name, y in bound.forward().items()})
    array[...] = first
    gradients = bound.groups["output_gradients"]
    return sum(float(np.vdot(moved[0][n] - moved[1][n], gradients["d" + n])) for n in moved[0]) / (2.0 * STEP)


def check_float32(layer, shapes):
    """The same values in float32 give the same results to float32's precision."""
    results = []
    for dtype in ("float64", "float32"):
        bound = BoundLayer(layer, shapes, dtype)
        results.append(all_results(bound))
    for key, exact in results[0].items():
        got = results[1][key]
        if exact.dtype.kind != "f":
            np.testing.assert_array_equal(got, exact, err_msg=str(key))
        elif exact.size:
            scale = max(1.0, float(np.abs(exact).max()))
            np.testing.assert_allclose(got, exact, rtol=0, atol=2e-5 * scale, err_msg=str(key))


def check_optional_gradients(layer, shapes, dtype="float64"):
    """Leaving out the gradient of one input changes no other gradient."""
    whole = BoundLayer(layer, shapes, dtype)
    whole.forward()
    expected = whole.backward()
    for left_out in range(len(shapes)):
        bound = BoundLayer(layer, shapes, dtype, wanted=[i != left_out for i in range(len(shapes))])
        bound.forward()
        for name, array in bound.backward().items():
            assert same_bits(array, expected[name]), f"{name} without dx{left_out}"


def all_results(bound):
    """Everything that forward, backward and then derive and infer write, copied."""
    results = {}
    if bound.training:
        bound.forward()
        results |= bound.copies("outputs", "state", "saved")
        bound.backward()
        results |= bound.copies("input_gradients", "param_gradients")
    bound.infer()
    return (
        results
        | bound.copies("derived")
        | {("infer", name): array.copy() for name, array in bound.groups["outputs"].items()}
    )


def check_same_bits(layer, shapes, dtype):
    """One thread, all threads and the serial form give the same bits."""
    with serial_below(0):
        parallel = BoundLayer(layer, shapes, dtype)
        expected = all_results(parallel)
        threads = numba.get_num_threads()
        try:
            numba.set_num_threads(1)
            alone = all_results(parallel)
        finally:
            numba.set_num_threads(threads)
    with serial_below(2**62):
        serial = all_results(BoundLayer(layer, shapes, dtype))
    for form, results in (("one thread", alone), ("serial form", serial)):
        for key, value in expected.items():
            assert same_bits(results[key], value), f"{form}: {key} differs"


def check_allocates_nothing(layer, shapes, dtype="float64"):
    """In the steady state no call takes memory that grows with the batch."""
    for factor in (1, 8):
        bound = BoundLayer(layer, [(shape[0] * factor, *shape[1:]) for shape in shapes], dtype)
        all_results(bound)
        training = (bound.layer.forward, bound.layer.backward) if bound.training else ()
        for call in (*training, bound.layer.derive, bound.layer.infer):
            peak = peak_of(call, bound.tensors)
            assert peak < PEAK_BYTES, f"{call.__name__} takes {peak} bytes at {factor} times the batch"


def peak_of(call, tensors):
    tracemalloc.start()
    try:
        call(tensors)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call(tensors)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
