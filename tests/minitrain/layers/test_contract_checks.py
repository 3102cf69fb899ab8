"""The checks of the layer contract see what they are for: a layer that breaks it is caught."""

from dataclasses import dataclass

import gradient_check as check
import numpy as np
import pytest

from minitrain.layer import Declaration, Layer, array, zeros


@dataclass(frozen=True)
class Scale(Layer):
    """y = weight x, right in everything."""

    reads = ("x",)

    def declare(self, *inputs):
        return Declaration(
            {"y": inputs[0]}, params={"weight": zeros((1,))}, backward_reads=self.reads, may_share={"dx0": ("dy", "x0")}
        )

    def forward(self, t):
        np.multiply(t.x, t.weight[0], out=t.y)

    def backward(self, t):
        if t.dweight is not None:
            t.dweight[0] = np.vdot(t.dy, t.x)
        if t.dx is not None:
            np.multiply(t.dy, t.weight[0], out=t.dx)
        if t.dx_before is not None:
            np.add(t.dx, t.dx_before, out=t.dx)


class Accumulates(Scale):
    def backward(self, t):
        t.dweight[0] += np.vdot(t.dy, t.x)
        np.multiply(t.dy, t.weight[0], out=t.dx)


class LeavesAnElement(Scale):
    def forward(self, t):
        np.multiply(t.x[1:], t.weight[0], out=t.y[1:])


class ReadsMoreThanItSays(Scale):
    reads = ()


class ChangesItsInput(Scale):
    def backward(self, t):
        super().backward(t)
        t.x[0] = 0


class ChangesStateInInference(Scale):
    def declare(self, *inputs):
        return Declaration(
            {"y": inputs[0]}, params={"weight": zeros((1,))}, state={"count": zeros((1,))}, backward_reads=("x",)
        )

    def infer(self, t):
        t.count[0] += 1
        super().forward(t)


class DerivesTwice(Scale):
    """y = 2 weight x in inference, right in everything but its training."""

    def declare(self, *inputs):
        derived = {"twice": array((1,))}
        return Declaration({"y": inputs[0]}, params={"weight": zeros((1,))}, derived=derived, backward_reads=("x",))

    def derive(self, t):
        np.multiply(t.weight, 2, out=t.twice)

    def infer(self, t):
        np.multiply(t.x, t.twice[0], out=t.y)


class DerivesFromTheInput(DerivesTwice):
    def derive(self, t):
        t.twice[0] = 2 * t.weight[0] + 0 * t.x.flat[0]


class DerivesByTheBatch(DerivesTwice):
    def derive(self, t):
        t.twice[0] = 2 * t.weight[0] * len(t.x)


class DerivesNothing(DerivesTwice):
    def derive(self, t):
        pass


class DerivesOnce(DerivesTwice):
    """Keeps what it derived in an attribute of its own."""

    def derive(self, t):
        if not hasattr(t, "kept"):
            t.kept = 2 * t.weight
        np.copyto(t.twice, t.kept)


class ChangesWhatItDerived(DerivesTwice):
    def infer(self, t):
        super().infer(t)
        t.twice[0] += 1


class WrongGradient(Scale):
    def backward(self, t):
        super().backward(t)
        t.dx[0] *= 1.0001


class WrongGradientOfWeight(Scale):
    def backward(self, t):
        super().backward(t)
        t.dweight[0] += 0.01


class Allocates(Scale):
    def forward(self, t):
        t.y[...] = t.x * t.weight[0]


class DoesNotAdd(Scale):
    def backward(self, t):
        t.dweight[0] = np.vdot(t.dy, t.x)
        np.multiply(t.dy, t.weight[0], out=t.dx)


class ReadsWhatItOverwrote(Scale):
    def backward(self, t):
        np.multiply(t.dy, t.weight[0], out=t.dx)
        t.dweight[0] = np.vdot(t.dy, t.x)


class NeedsAllGradients(Scale):
    def backward(self, t):
        super().backward(t)
        if t.dweight is not None:
            t.dweight[0] = np.inf if t.dx is None else t.dweight[0]


class NeedsTheGradientOfWeight(Scale):
    def backward(self, t):
        super().backward(t)
        if t.dweight is None and t.dx is not None:
            t.dx[0] += 1


class WritesTheGradientOfWeight(Scale):
    def backward(self, t):
        t.dweight[0] = np.vdot(t.dy, t.x)
        if t.dx is not None:
            np.multiply(t.dy, t.weight[0], out=t.dx)


SHAPES = [(40, 5)]


@pytest.mark.parametrize(
    ("layer", "checked"),
    [
        (Accumulates, lambda layer: check.check_overwrites(check.BoundLayer(layer, SHAPES))),
        (LeavesAnElement, lambda layer: check.check_overwrites(check.BoundLayer(layer, SHAPES))),
        (ReadsMoreThanItSays, lambda layer: check.check_overwrites(check.BoundLayer(layer, SHAPES))),
        (ChangesItsInput, lambda layer: check.check_reads_only(check.BoundLayer(layer, SHAPES))),
        (ChangesStateInInference, lambda layer: check.check_reads_only(check.BoundLayer(layer, SHAPES))),
        (ChangesWhatItDerived, lambda layer: check.check_reads_only(check.BoundLayer(layer, SHAPES))),
        (DerivesFromTheInput, lambda layer: check.check_derives(layer, SHAPES)),
        (DerivesByTheBatch, lambda layer: check.check_derives(layer, SHAPES)),
        (DerivesNothing, lambda layer: check.check_derives(layer, SHAPES)),
        (DerivesOnce, lambda layer: check.check_derives(layer, SHAPES)),
        (WrongGradient, lambda layer: check.check_gradients(check.BoundLayer(layer, SHAPES))),
        (WrongGradientOfWeight, lambda layer: check.check_gradients(check.BoundLayer(layer, SHAPES))),
        (Allocates, lambda layer: check.check_allocates_nothing(layer, [(400, 5)])),
        (DoesNotAdd, lambda layer: check.check_adds_gradient(layer, SHAPES)),
        (ReadsWhatItOverwrote, lambda layer: check.check_in_place(layer, SHAPES)),
        (NeedsAllGradients, lambda layer: check.check_optional_gradients(layer, SHAPES)),
        (NeedsTheGradientOfWeight, lambda layer: check.check_optional_gradients(layer, SHAPES)),
        (WritesTheGradientOfWeight, lambda layer: check.check_optional_gradients(layer, SHAPES)),
    ],
    ids=lambda value: value.__name__,
)
def test_a_layer_that_breaks_the_contract_is_caught(layer, checked):
    checked(Scale())
    checked(DerivesTwice())
    with pytest.raises((AssertionError, TypeError)):  # a TypeError where it writes what is None
        checked(layer())
