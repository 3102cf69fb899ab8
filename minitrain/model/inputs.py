"""What a person passes as x, held against the inputs of a model: arrays that fit, or words that help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from minitrain.arrays import as_numbers, described, shape_of
from minitrain.arrays.mapped import chunks
from minitrain.layer import FreeShape, Spec
from nbnorm.jit.arrays import Array

__all__ = ["check_inputs"]

EXACT = {"float32": 2**24, "float64": 2**53}  # whole numbers up to here are floats of this type
UNNAMED = "input"  # what the only input is called unless it was given a name
KINDS = {"f": "fiub", "i": "iu", "u": "iu", "b": "b"}  # of arrays, that an input of a kind takes


def check_inputs(inputs: Mapping[str, Spec], x: Any, dtype: np.dtype) -> list[Array]:
    """Return x as a list of plain arrays, one for each input, of one length; nothing is copied without need.

    Parameters
    ----------
    inputs : mapping of name to Spec without the batch axis
        `Graph.inputs`.
    x : array, list of samples, sequence of arrays for several inputs, or mapping of the inputs' names to arrays
    dtype : dtype
        The model's float type.

    Raises
    ------
    TypeError, ValueError
        What does not fit: names the argument and the input, what was expected and what came, and the remedy.
    """
    if len(inputs) == 1 and type(x) is np.ndarray and x.ndim and x.dtype.kind == "f":  # the usual case
        (spec,) = inputs.values()
        if x.shape[1:] == spec.shape and spec.dtype is None:
            return [x]
    arrays = []
    for name, given in _by_input(inputs, x).items():
        label = "x" if len(inputs) == 1 and name == UNNAMED else f"x ({name})"
        arrays.append(_checked(label, given, inputs[name], dtype))
    for name, each in zip(inputs, arrays, strict=True):
        if len(each) != len(arrays[0]):
            raise ValueError(f"x ({name}): expected {len(arrays[0])} samples like the first input, got {len(each)}")
    return arrays


def _by_input(inputs: Mapping[str, Spec], x: Any) -> dict[str, Any]:
    """What was given for each input, in the order of the inputs."""
    names = ", ".join(inputs)
    if isinstance(x, Mapping):
        missing = [name for name in inputs if name not in x]
        if missing or len(x) != len(inputs):
            got = ", ".join(map(str, x)) or "no array"
            raise ValueError(f"x: expected arrays under the names of the inputs ({names}), got {got}")
        return {name: x[name] for name in inputs}
    if len(inputs) == 1:
        ((name, spec),) = inputs.items()
        return {name: _only(x, spec)}
    if not isinstance(x, (list, tuple)):
        shape = shape_of(x)
        one = f"one of shape {shape}" if isinstance(x, np.ndarray) else described(x)
        raise (ValueError if shape else TypeError)(
            f"x: expected {len(inputs)} arrays ({names}), got {one}; pass a list, or a dictionary by these names"
        )
    if len(x) != len(inputs):
        raise ValueError(f"x: expected {len(inputs)} arrays ({names}), got {len(x)}")
    return dict(zip(inputs, x, strict=True))


def _only(x: Any, spec: Spec) -> Any:
    """What was given for the only input: samples, or a sequence with all samples in one array."""
    if not isinstance(x, (list, tuple)) or not len(x):
        return x
    shape = shape_of(x[0])
    if len(x) == 1 and shape is not None and _fits(shape[1:], spec.shape) and len(shape) == len(spec.shape) + 1:
        return x[0]
    if len(x) > 1 and shape and len(shape) == len(spec.shape) + 1 and _fits(shape[1:], spec.shape):
        other = shape_of(x[1])
        targets = "; targets are an argument of their own: fit(x, y)" if len(x) == 2 else ""
        raise ValueError(
            f"x: expected one array of shape {_wanted(spec.shape)}, got {described(x)} of {len(x)}, the first two of "
            f"shape {shape} and {other or described(x[1])}{targets}; parts of one set: np.concatenate(x)"
        )
    return x


def _checked(label: str, given: Any, spec: Spec, dtype: np.dtype) -> Array:
    """Return an input as an array of a kind and a shape that fit."""
    target = dtype if spec.dtype is None else np.dtype(spec.dtype)
    expected = "numbers" if spec.dtype is None else f"an array of {target}"
    array = as_numbers(label, given, expected)
    if not array.size and spec.dtype is not None:
        array = array.astype(target)
    if array.dtype.kind not in KINDS[target.kind]:
        remedy = (
            "; make booleans of them: x != 0" if target.kind == "b" else f"; where they are whole: .astype('{target}')"
        )
        raise TypeError(f"{label}: expected {expected}, got dtype {array.dtype}{remedy}")
    if len(array.shape) != len(spec.shape) + 1 or not _fits(array.shape[1:], spec.shape):
        hint = _hint(array.shape, spec.shape)
        raise ValueError(f"{label}: expected shape {_wanted(spec.shape)}, got {array.shape}{hint}")
    _expect_exact(label, array, target)
    return array


def _fits(sizes: Sequence[int], wanted: FreeShape) -> bool:
    """Whether one sample has the sizes of an input; a free axis takes any but none."""
    return len(sizes) == len(wanted) and all(
        size == expected or (expected is None and size > 0) for size, expected in zip(sizes, wanted, strict=True)
    )


def _wanted(shape: FreeShape) -> str:
    sizes = ["samples", *("any" if size is None else str(size) for size in shape)]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _hint(shape: tuple[int, ...], wanted: FreeShape) -> str:
    """What was probably meant by an array of another shape; empty where nobody knows."""
    if not shape:
        return ": a single number; samples are the first axis"
    if shape[0] == 0 and len(shape) == 1:
        return ": there are no samples"
    if 0 in shape:
        return ""
    if _fits(shape, wanted):
        return "; one sample needs an axis in front: x[None]"
    for axis, size in enumerate(wanted):
        if size == 1 and _fits(shape[1:], (*wanted[:axis], *wanted[axis + 1 :])):
            colons = ":, " * (axis + 1)
            return f"; an axis of size 1 is missing: x[{colons}None]"
    for order in _orders(len(shape)):
        if _fits([shape[axis] for axis in order[1:]], wanted):
            turned = "x.T" if len(shape) == 2 else f"x.transpose{order}"
            channels = " (channels come before height and width)" if len(shape) == 4 else ""
            return f"; its axes fit in another order{channels}: {turned}"
        if _fits([shape[axis] for axis in order], wanted):
            return f"; one sample whose axes fit in another order: x.transpose{order}[None]"
    if None not in wanted and math.prod(shape[1:]) == math.prod(wanted) and len(shape) > 1:
        return f"; as many numbers in another shape: x.reshape{(-1, *wanted)}"
    if None not in wanted and math.prod(shape) == math.prod(wanted):
        return f"; one sample in another shape: x.reshape{(1, *wanted)}"
    return ""


def _orders(axes: int) -> list[tuple[int, ...]]:
    """Return other orders of a few axes, those first in which the fewest pairs of axes change places."""
    if axes > 5:
        return []
    found = permutations(range(axes))
    return sorted(found, key=lambda order: sum(a > b for a, b in combinations(order, 2)))[1:]


def _expect_exact(label: str, array: Array, target: np.dtype) -> None:
    """Raise where the target's type does not hold these whole numbers exactly."""
    if array.dtype.kind not in "iu" or not array.size:
        return
    if target.kind == "f":
        if array.itemsize < target.itemsize:
            return
        high = EXACT[str(target)]
        low = -high
    else:
        if np.can_cast(array.dtype, target):
            return
        low, high = int(np.iinfo(target).min), int(np.iinfo(target).max)
    bounds = [(int(each.min()), int(each.max())) for each in chunks(array)]
    least, most = min(low for low, _ in bounds), max(high for _, high in bounds)
    if least < low or most > high:
        labels = "; for labels and tokens make it Input(shape, dtype='int64')" if target.kind == "f" else ""
        raise ValueError(
            f"{label}: expected whole numbers from {low} to {high}, which {target} holds exactly, got {least} to "
            f"{most}{labels}"
        )
