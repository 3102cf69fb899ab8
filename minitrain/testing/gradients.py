"""Gradients against central differences."""

from __future__ import annotations

import numpy as np

from minitrain.layer import Layer
from minitrain.testing.bound_layer import BoundLayer
from minitrain.testing.drawing import Inputs
from nbnorm.jit.arrays import Array

__all__ = ["check_gradients"]

STEP = 1e-6  # of the central differences
POSITIONS = 16  # elements of an array that are moved one by one; then all of them are moved along one direction
TOLERANCE = 1e-6  # beside 1 and the size of what is summed; steps of 1e-6 leave an error of 1e-9 in float64


def check_gradients(layer: Layer, inputs: Inputs, seed: int = 0) -> None:
    """Gradients of all inputs and parameters are the derivatives of sum(y dy), summed over all outputs; float64."""
    bound = BoundLayer(layer, inputs)
    rng = np.random.default_rng(seed)
    bound.forward()
    for name, gradient in [(name, array.copy()) for name, array in bound.backward().items()]:
        moved = (bound.groups["inputs"] | bound.groups["params"])[name[1:]]
        _check_gradient_of(bound, name, moved, gradient, rng)


def _check_gradient_of(
    bound: BoundLayer, name: str, array: Array, gradient: Array, rng: np.random.Generator
) -> None:  # fmt: skip
    directions: list[Array] = []
    for position in rng.permutation(array.size)[:POSITIONS]:
        one = np.zeros(array.size)
        one[position] = 1.0
        directions.append(one)
    directions.append(rng.standard_normal(array.size))
    for flat in directions:
        direction = flat.reshape(array.shape)
        expected = _directional_derivative(bound, array, direction)
        got = float(np.vdot(gradient, direction))
        tolerance = TOLERANCE * (1.0 + np.abs(gradient * direction).sum())
        assert abs(got - expected) <= tolerance, f"{name}: expected {expected}, got {got}"


def _directional_derivative(bound: BoundLayer, array: Array, direction: Array) -> float:
    """Derivative of sum(y dy) when `array` moves along `direction`."""
    first = array.copy()
    moved = []
    for sign in (1.0, -1.0):
        array[...] = first + sign * STEP * direction
        moved.append({name: y.copy() for name, y in bound.forward().items()})
    array[...] = first
    gradients = bound.groups["output_gradients"]
    changes = (float(np.vdot(moved[0][name[1:]] - moved[1][name[1:]], dy)) for name, dy in gradients.items())
    return sum(changes) / (2.0 * STEP)
