"""Holds one layer, bound to arrays of its own, against the contract of minitrain/layer.py."""

import tracemalloc
from contextlib import contextmanager

import numba
import numpy as np
from bound_layer import READ_BY_FORWARD, BoundLayer, moments

from minitrain.layer import Spec
from nbnorm.jit import dispatch

STEP = 1e-6  # of the central differences
POSITIONS = 16  # elements of an array that are moved one by one; then all of them are moved along one direction
PEAK_BYTES = 16_000  # for boxed arguments and working space of fixed size, whatever the batch


@contextmanager
def serial_below(elements):
    """Choose the form of the kernels as if this were the size from which threads pay."""
    before, dispatch.SERIAL_WORK = dispatch.SERIAL_WORK, elements
    try:
        yield
    finally:
        dispatch.SERIAL_WORK = before


# ------------------------------------------------------------------------------------------------------- the contract


def check_overwrites(bound):
    """Whatever the contract says is written is written: nothing of the poison is left."""
    for name, array in bound.forward().items():
        assert np.isfinite(array).all(), f"forward leaves {name} as it was, or reads memory that holds rubbish"
    for name, array in bound.groups["state"].items():
        assert array.dtype.kind != "f" or np.isfinite(array).all(), f"forward spoils {name}"
    for name, array in bound.backward().items():
        assert np.isfinite(array).all(), f"backward leaves {name} as it was, or reads what it does not declare"


def check_side_outputs(layer, shapes, dtype="float64"):
    """They are the moments of the output, whatever kernel found them."""
    bound = BoundLayer(layer, shapes, dtype)
    y = bound.forward()["y"]
    found = bound.groups["outputs"]["moments"]
    mean, var = moments(y)
    tolerance = 1e-13 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(found[0], mean, rtol=0, atol=tolerance * np.sqrt(var).max())
    np.testing.assert_allclose(found[1], var, rtol=tolerance)


def times(factor, layer, shapes):
    """The shapes for a larger batch; those of side inputs do not depend on it."""
    return [Spec((factor * s.shape[0], *s.shape[1:]), s.dtype, s.gradient) if s.gradient else s for s in specs(shapes)]


def specs(inputs):
    """Shapes, or Specs, as Specs."""
    return [each if isinstance(each, Spec) else Spec(each) for each in inputs]


def check_derives(layer, shapes, dtype="float64"):
    """Inference follows changed parameters and state; derived arrays come from these alone, whatever the batch."""
    bound = BoundLayer(layer, shapes, dtype)
    larger = BoundLayer(layer, times(3, layer, shapes), dtype, training=False)
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
            if "d" + name in analytic:
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
    changes = (float(np.vdot(moved[0][n[1:]] - moved[1][n[1:]], dy)) for n, dy in gradients.items())
    return sum(changes) / (2.0 * STEP)


def check_float32(layer, shapes):
    """The same values in float32 give the same results to float32's precision."""
    results = []
    for dtype in ("float64", "float32"):
        bound = BoundLayer(layer, shapes, dtype)
        results.append(all_results(bound))
    for key, exact in results[0].items():
        if key[0] == "derived":  # the form is the kernel's, which may be another one for another dtype
            continue
        got = results[1][key]
        if exact.dtype.kind != "f":
            np.testing.assert_array_equal(got, exact, err_msg=str(key))
        elif exact.size:
            scale = max(1.0, float(np.abs(exact).max()))
            np.testing.assert_allclose(got, exact, rtol=0, atol=2e-5 * scale, err_msg=str(key))


def check_optional_gradients(layer, shapes, dtype="float64"):
    """Leaving out gradients changes no bit of any other: each alone, each but one, those of all inputs, of all params.

    What is left out is None, as for an input that nobody differentiates by, or for a frozen parameter.
    """
    whole = BoundLayer(layer, shapes, dtype)
    whole.forward()
    expected = {name: array.copy() for name, array in whole.backward().items()}
    of_inputs = {f"dx{i}" for i in range(len(shapes))}
    of_params = {name for name in expected if name not in of_inputs}
    everything = of_inputs | of_params
    choices = [{name} for name in everything] + [everything - {name} for name in everything]
    for left_out in (*choices, of_inputs, of_params, everything):
        bound = BoundLayer(layer, shapes, dtype, left_out=left_out)
        bound.forward()
        got = bound.backward()
        assert set(got) == {name for name in expected if name not in left_out}
        for name, array in got.items():
            assert same_bits(array, expected[name]), f"{name} without {', '.join(sorted(left_out))}"


def check_adds_gradient(layer, shapes, dtype="float64"):
    """Backward adds the gradient that others have found to that of the input, and to nothing else."""
    plain, adding = BoundLayer(layer, shapes, dtype), BoundLayer(layer, shapes, dtype)
    before = np.random.default_rng(1).standard_normal(specs(shapes)[0].shape).astype(dtype)
    kept = before.copy()
    adding.dx_before = before
    adding.bind()
    for bound in (plain, adding):
        bound.forward()
        bound.backward()
    assert same_bits(before, kept), "backward changes dx_before"
    np.testing.assert_array_equal(
        adding.groups["input_gradients"]["dx0"], plain.groups["input_gradients"]["dx0"] + before
    )
    for name, array in plain.groups["param_gradients"].items():
        assert same_bits(adding.groups["param_gradients"][name], array), f"dx_before changes {name}"


def check_in_place(layer, shapes, dtype="float64"):
    """Gradients of inputs in every place that the layer names, one by one and together, have the same bits."""
    places = {name: list(places) for name, places in layer.declare(*specs(shapes)).may_share.items()}
    choices = [{name: place} for name in places for place in places[name]]
    choices.append({name: places[name][0] for name in places})
    for choice in choices:
        separate, shared = BoundLayer(layer, shapes, dtype), BoundLayer(layer, shapes, dtype)
        separate.forward()
        separate.backward()
        shared.forward()
        for name, place in choice.items():
            group = "output_gradients" if place.startswith("d") else "inputs"
            shared.groups["input_gradients"][name] = shared.groups[group][place]
        shared.bind()
        layer.backward(shared.tensors)
        for group in ("input_gradients", "param_gradients"):
            for name, array in separate.groups[group].items():
                assert same_bits(shared.groups[group][name], array), f"{name} differs with {choice}"


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
        bound = BoundLayer(layer, times(factor, layer, shapes), dtype)
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
