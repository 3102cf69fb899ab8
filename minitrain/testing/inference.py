"""The checks of inference and of what is derived for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minitrain.layer import Layer
from minitrain.testing.bound_layer import BoundLayer
from minitrain.testing.drawing import Inputs, is_finite, larger, same_bits
from nbnorm.jit.arrays import Array

__all__ = ["check_derives", "check_infers"]


def check_derives(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Inference follows changed parameters and state; derived arrays come from these alone, whatever the batch."""
    bound = BoundLayer(layer, inputs, dtype)
    more = BoundLayer(layer, larger(inputs, 3), dtype, training=False)
    other = BoundLayer(layer, inputs, dtype, training=False, seed=1)
    before = _copied(bound.infer())
    for group in ("params", "state"):
        for name, array in other.groups[group].items():
            array[...] = array * 1.25
            bound.groups[group][name][...] = array
            more.groups[group][name][...] = array
    for each in (bound, more):
        kept = each.copies("inputs")
        each.poison("inputs")
        each.derive()
        for (group, name), content in kept.items():
            each.groups[group][name][...] = content
    other.derive()
    for name, array in other.groups["derived"].items():
        assert is_finite(array), f"derive leaves {name} as it was"
        for each in (bound, more):
            same = same_bits(each.groups["derived"][name], array)
            assert same, f"{name} depends on more than parameters and state"
    for name, content in bound.groups["inputs"].items():
        other.groups["inputs"][name][...] = content
    for each in (bound, other):
        for carried in each.groups["carried"].values():
            carried.fill(0)
    after, expected = _copied(bound.infer_again()), other.infer_again()
    for name, array in expected.items():
        assert same_bits(after[name], array), f"infer remembers former parameters or state in {name}"
    if bound.groups["params"]:
        assert any(not same_bits(after[name], before[name]) for name in before), "infer does not use the parameters"


def check_infers(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Inference needs no gradients and writes all outputs that it promises, the same in a training plan's company."""
    beside = BoundLayer(layer, inputs, dtype)
    alone = BoundLayer(layer, inputs, dtype, training=False)
    outputs = alone.infer()
    for name, expected in beside.infer().items():
        assert is_finite(outputs[name]), f"infer leaves {name} as it was"
        assert same_bits(outputs[name], expected), f"{name} depends on whether there are gradients"


def _copied(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in arrays.items()}
