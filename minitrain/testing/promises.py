"""The checks of precision, of threads, and of memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from minitrain.layer import Layer
from minitrain.testing.bound_layer import BoundLayer
from minitrain.testing.drawing import Inputs, larger, same_bits
from nbnorm.jit import dispatch
from nbnorm.jit.arrays import Array

__all__ = ["check_allocates_nothing", "check_float32", "check_same_bits", "peak_of", "serial_below"]

PEAK_BYTES = 16_000  # for boxed arguments and working space of fixed size, whatever the batch
FLOAT32_TOLERANCE = 2e-5  # beside the largest value: sums of a few hundred float32 terms


@contextmanager
def serial_below(elements: int) -> Iterator[None]:
    """Choose the form of the kernels as if this were the size from which threads pay."""
    before, dispatch.SERIAL_WORK = dispatch.SERIAL_WORK, elements
    try:
        yield
    finally:
        dispatch.SERIAL_WORK = before


def all_results(bound: BoundLayer) -> dict[tuple[str, str], Array]:
    """Everything that forward, backward and then derive and infer write, copied."""
    results: dict[tuple[str, str], Array] = {}
    if bound.training:
        bound.forward()
        results |= bound.copies("outputs", "state", "carried", "saved")
        bound.backward()
        results |= bound.copies("input_gradients", "param_gradients")
    bound.infer()
    results |= bound.copies("derived")
    return results | {("infer", name): array.copy() for name, array in bound.groups["outputs"].items()}


def check_float32(layer: Layer, inputs: Inputs) -> None:
    """The same values in float32 give the same results to float32's precision."""
    exact, single = (all_results(BoundLayer(layer, inputs, dtype)) for dtype in ("float64", "float32"))
    for key, expected in exact.items():
        if key[0] == "derived":  # the form is the kernel's, which may be another one for another dtype
            continue
        name = f"{key[1]} ({key[0]})"
        if expected.dtype.kind != "f":
            assert np.array_equal(single[key], expected), f"{name} is another one in float32"
        elif expected.size:
            scale = max(1.0, float(np.abs(expected).max()))
            error = float(np.abs(single[key] - expected).max())
            assert error <= FLOAT32_TOLERANCE * scale, f"{name} in float32 is off by {error}, at values up to {scale}"


def check_same_bits(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float32") -> None:
    """One thread, all threads and the serial form of the kernels give the same bits."""
    with serial_below(0):
        parallel = BoundLayer(layer, inputs, dtype)
        expected = all_results(parallel)
        threads = numba.get_num_threads()
        try:
            numba.set_num_threads(1)
            alone = all_results(parallel)
        finally:
            numba.set_num_threads(threads)
    with serial_below(2**62):
        serial = all_results(BoundLayer(layer, inputs, dtype))
    for form, results in (("one thread", alone), ("the serial form", serial)):
        for key, value in expected.items():
            assert same_bits(results[key], value), f"{key[1]} ({key[0]}) has other bits with {form}"


def check_allocates_nothing(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """In the steady state no call takes memory that grows with the batch."""
    for factor in (1, 8):
        bound = BoundLayer(layer, larger(inputs, factor), dtype)
        all_results(bound)
        calls = [(layer.derive, bound.inference_tensors), (layer.infer, bound.inference_tensors)]
        if bound.training:
            calls += [(layer.forward, bound.tensors), (layer.backward, bound.tensors)]
        for call, tensors in calls:
            peak = peak_of(call, tensors)
            assert peak < PEAK_BYTES, f"{call.__name__} takes {peak} bytes at {factor} times the batch"


def peak_of(call: Callable[[Any], object], argument: Any) -> int:
    """Bytes that a second call takes beyond what there was before it."""
    tracemalloc.start()
    try:
        call(argument)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call(argument)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
