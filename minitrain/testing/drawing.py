"""What the inputs, parameters and states of a layer under test hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minitrain.layer import Buffer, Example, Shape, Spec
from nbnorm.jit.arrays import Array

__all__ = ["Inputs", "as_example", "draw_input", "draw_state", "draw_values", "is_finite", "larger", "poison",
           "same_bits"]  # fmt: skip

Inputs = Example | Sequence[Shape | Spec] | Shape


def as_example(inputs: Inputs) -> Example:
    """Return inputs as an Example; one that has the arguments of a layer keeps them."""
    if isinstance(inputs, Example):
        return inputs
    sizes = [each for each in inputs if isinstance(each, (int, np.integer))]
    return Example(tuple(map(int, sizes))) if sizes else Example(*inputs)  # sizes: the only input's shape


def larger(inputs: Inputs, factor: int) -> Example:
    """Return an example with so many times the samples."""
    example = as_example(inputs)
    specs = [Spec((factor * each.shape[0], *each.shape[1:]), each.dtype, each.gradient) for each in example.inputs]
    rng = np.random.default_rng(0)
    drawn = [draw_input(rng, spec, np.dtype("float64"), example.high)
             for index, spec in enumerate(specs) if f"x{index}" not in example.computed]  # fmt: skip
    for name, function in example.computed.items():
        index = int(name[1:])
        before = example.inputs[index]
        specs[index] = Spec(np.asarray(function(*drawn)).shape, before.dtype, before.gradient)
    return Example(*specs, high=example.high, computed=example.computed)


def draw_input(rng: np.random.Generator, spec: Spec, dtype: np.dtype, high: int) -> Array:
    """Draw an input: floats as parameters are, integers below `high`, booleans that are True in two of three places."""
    if spec.is_float:
        return draw_values(rng, spec.shape).astype(spec.dtype or dtype)
    if np.dtype(spec.dtype).kind == "b":
        return rng.random(spec.shape) < 2 / 3
    return rng.integers(0, high, spec.shape).astype(spec.dtype)


def draw_values(rng: np.random.Generator, shape: Shape) -> Array:
    """Values in random order, about 1 in size, none zero and no two equal: no finite difference meets a kink.

    All are float32 numbers, so that both dtypes can be given the same.
    """
    size = int(np.prod(shape))
    values = np.linspace(-2.0, 2.0, size + 1 + size % 2)[:size] + 0.1 / (size + 1)
    return rng.permutation(values).reshape(shape).astype(np.float32)


def draw_state(rng: np.random.Generator, buffer: Buffer, dtype: np.dtype) -> Array:
    """Return a state's first content, floats moved as if they had seen something."""
    assert buffer.fill is not None, "a state that is declared without a first value"
    content = np.asarray(buffer.fill(rng, buffer.shape, buffer.fan_in, buffer.fan_out))
    if buffer.dtype is None:
        content = (content + rng.uniform(0.1, 0.9, buffer.shape)).astype(np.float32)
    return content.astype(buffer.dtype or dtype)


def poison(array: Array, least: bool = False) -> None:
    """Fill with what no layer may have computed from: NaN, the largest or least integer, True or False."""
    if array.dtype.kind == "f":
        array.fill(np.nan)
    elif array.dtype.kind == "b":
        array.fill(not least)
    else:
        limits = np.iinfo(array.dtype)
        array.fill(limits.min if least else limits.max)


def same_bits(a: Array, b: Array) -> bool:
    """Return whether two arrays have one dtype, one shape and the same bits."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def is_finite(array: Array) -> bool:
    """Return whether nothing is left of the poison in an array of floats."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
