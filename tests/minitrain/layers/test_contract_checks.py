"""The checks of the layer contract see what they are for: a layer that breaks it is caught."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from minitrain.layer import Declaration, Example, Layer, Spec, array, zeros
from minitrain.testing import check_layer, checks, gradients, inference, promises


@dataclass(frozen=True)
class Scale(Layer):
    """y = weight x, right in everything."""

    reads = ("x",)
    examples = (Example((40, 5)),)

    def declare(self, *inputs):
        return Declaration(
            {"y": inputs[0]},
            params={"weight": zeros((1,))},
            backward_reads=self.reads,
            may_share={"dx0": ("dy", "x0")},
            adds_gradient=type(self) is Scale,
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
    def declare(self, *inputs):
        return replace(super().declare(*inputs), adds_gradient=True)

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


@dataclass(frozen=True)
class Running(Layer):
    """y = x + the sum of all x so far: carried from call to call. Right in everything."""

    examples = (Example((4, 3)),)

    def declare(self, *inputs):
        return Declaration({"y": inputs[0]}, carried={"total": array(inputs[0].shape)})

    def forward(self, t):
        np.add(t.total, t.x, out=t.total)
        np.copyto(t.y, t.total)

    def backward(self, t):
        if t.dx is not None:
            np.copyto(t.dx, t.dy)


class KeepsItElsewhere(Running):
    def forward(self, t):
        t.kept = getattr(t, "kept", 0.0) + t.x
        np.copyto(t.y, t.kept)


class StartsAtRubbish(Running):
    """Takes it that what is carried is never zero."""

    def forward(self, t):
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(t.x, t.total, out=t.y)
        np.copyto(t.total, t.x)


class CarriesBackward(Running):
    def backward(self, t):
        super().backward(t)
        t.total[0] += 1


@dataclass(frozen=True)
class Lookup(Layer):
    """Rows of a table by integers, where a mask is; and the first of them, and how many. Right in everything."""

    rows: int = 7

    examples = (Example(Spec((5, 4), "int64"), Spec((5, 4), "bool"), high=7, rows=7),)

    def declare(self, *inputs):
        index, _ = inputs
        y = (*index.shape, 3)
        return Declaration(
            {"y": Spec(y), "first": Spec((y[0], 3)), "count": Spec((y[0],), "int64")},
            params={"table": zeros((self.rows, 3))},
            backward_reads=("x",),
        )

    def forward(self, t):
        index, mask = t.xs
        np.multiply(t.table[index], mask[:, :, None], out=t.y)
        np.copyto(t.first, t.y[:, 0])
        np.sum(mask, axis=1, out=t.count)

    def backward(self, t):
        index, mask = t.xs
        if t.dtable is not None:
            t.dtable.fill(0)
            np.add.at(t.dtable, index, t.dy * mask[:, :, None])
            np.add.at(t.dtable, index[:, 0], t.dfirst * mask[:, :1])


class ClipsItsIndex(Lookup):
    def forward(self, t):
        np.minimum(t.xs[0], 3, out=t.xs[0])
        super().forward(t)


class DoesNotReadTheIndex(Lookup):
    def declare(self, *inputs):
        return replace(super().declare(*inputs), backward_reads=("x1",))


class ForgetsAnOutput(Lookup):
    def backward(self, t):
        index, mask = t.xs
        if t.dtable is not None:
            t.dtable.fill(0)
            np.add.at(t.dtable, index, t.dy * mask[:, :, None])


class ForgetsTheMask(Lookup):
    def backward(self, t):
        if t.dtable is not None:
            t.dtable.fill(0)
            np.add.at(t.dtable, t.xs[0], t.dy)
            np.add.at(t.dtable, t.xs[0][:, 0], t.dfirst)


class DifferentiatesItsIndex(Lookup):
    """Writes a gradient of what has none."""

    def backward(self, t):
        super().backward(t)
        t.dxs[0][...] = 0


class CountIsLeft(Lookup):
    def forward(self, t):
        count = t.count.copy()
        super().forward(t)
        np.copyto(t.count, count)


@dataclass(frozen=True)
class Centered(Layer):
    """y = x less the mean of each column, which is an input that is computed. Right in everything."""

    examples = (Example((6, 3), Spec((3,), "float64", False), computed={"x1": lambda x: x.mean(axis=0)}),)

    def declare(self, *inputs):
        return Declaration({"y": inputs[0]})

    def forward(self, t):
        np.subtract(t.xs[0], t.xs[1], out=t.y)

    def backward(self, t):
        if t.dxs[0] is not None:
            np.subtract(t.dy, t.dy.mean(axis=0), out=t.dxs[0])


class TakesTheMeanForConstant(Centered):
    def backward(self, t):
        if t.dxs[0] is not None:
            np.copyto(t.dxs[0], t.dy)


class View(Scale):
    """y is x in another shape. Right in everything."""

    def declare(self, *inputs):
        return Declaration({"y": Spec((*inputs[0].shape, 1))}, same={"y": "x0", "dx0": "dy"})

    def forward(self, t):
        pass

    def backward(self, t):
        pass


class WritesTheView(View):
    def forward(self, t):
        t.y[0] = 0


class WritesTheGradientThatIsAView(View):
    def backward(self, t):
        t.dx[0] = 0


class DerivesInTraining(DerivesTwice):
    """y = 2 weight x always, from what is derived. Right in everything."""

    derives_in_training = True

    def forward(self, t):
        self.infer(t)

    def backward(self, t):
        if t.dweight is not None:
            t.dweight[0] = 2 * np.vdot(t.dy, t.x)
        if t.dx is not None:
            np.multiply(t.dy, t.twice[0], out=t.dx)


class DerivesInTrainingUnsaid(DerivesInTraining):
    derives_in_training = False


class Rebinds(Scale):
    def forward(self, t):
        t.y = t.x * t.weight[0]


class RebindsWhileBinding(Scale):
    def bind_forward(self, t):
        t.x = t.x.reshape(-1)


class InfersWithState(Scale):
    """Leaves what inference is to write."""

    def infer(self, t):
        pass


class KnowsTheBatch(Scale):
    def declare(self, *inputs):
        declared = super().declare(*inputs)
        return replace(declared, params={"weight": zeros((inputs[0].shape[0],))})


class ReadsAnInputThatIsNotThere(Scale):
    reads = ("x", "x1")


class NamesStatisticsThatAreNotThere(Scale):
    statistics = ("running_mean",)


RIGHT = (Scale, DerivesInTraining, Running, Lookup, Centered, View)
BROKEN = [
    (Accumulates, checks.check_overwrites),
    (LeavesAnElement, checks.check_overwrites),
    (ReadsMoreThanItSays, checks.check_overwrites),
    (StartsAtRubbish, checks.check_overwrites),
    (CountIsLeft, checks.check_overwrites),
    (DifferentiatesItsIndex, checks.check_overwrites),
    (ChangesItsInput, checks.check_reads_only),
    (ChangesStateInInference, checks.check_reads_only),
    (ChangesWhatItDerived, checks.check_reads_only),
    (CarriesBackward, checks.check_reads_only),
    (ClipsItsIndex, checks.check_reads_only),
    (WritesTheView, checks.check_reads_only),
    (WritesTheGradientThatIsAView, checks.check_reads_only),
    (Rebinds, checks.check_reads_only),
    (RebindsWhileBinding, checks.check_reads_only),
    (DerivesInTrainingUnsaid, checks.check_reads_only),
    (KeepsItElsewhere, checks.check_remembers_nothing),
    (KnowsTheBatch, checks.check_declaration),
    (ReadsAnInputThatIsNotThere, checks.check_declaration),
    (NamesStatisticsThatAreNotThere, checks.check_declaration),
    (DerivesFromTheInput, inference.check_derives),
    (DerivesByTheBatch, inference.check_derives),
    (DerivesNothing, inference.check_derives),
    (DerivesOnce, inference.check_derives),
    (InfersWithState, inference.check_infers),
    (WrongGradient, gradients.check_gradients),
    (WrongGradientOfWeight, gradients.check_gradients),
    (DoesNotReadTheIndex, gradients.check_gradients),
    (ForgetsAnOutput, gradients.check_gradients),
    (ForgetsTheMask, gradients.check_gradients),
    (TakesTheMeanForConstant, gradients.check_gradients),
    (DoesNotAdd, checks.check_adds_gradient),
    (ReadsWhatItOverwrote, checks.check_in_place),
    (NeedsAllGradients, checks.check_optional_gradients),
    (NeedsTheGradientOfWeight, checks.check_optional_gradients),
    (WritesTheGradientOfWeight, checks.check_optional_gradients),
]


@pytest.mark.parametrize("layer", RIGHT, ids=lambda layer: layer.__name__)
def test_a_layer_that_keeps_the_contract_passes(layer):
    check_layer(layer)


@pytest.mark.parametrize(("layer", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_layer_that_breaks_the_contract_is_caught(layer, check):
    (example,) = layer.examples
    with pytest.raises((AssertionError, TypeError, AttributeError)):  # of what is None, or bound already, or not there
        check(layer(), example)
    with pytest.raises(AssertionError, match=rf"^{layer.__name__}\(.*: [a-z0-9 ]+: .+"):
        check_layer(layer)


def test_a_layer_that_allocates_is_caught():
    promises.check_allocates_nothing(Scale(), [(400, 5)])
    with pytest.raises(AssertionError, match=r"takes .* bytes at . times the batch"):
        promises.check_allocates_nothing(Allocates(), [(400, 5)])
    with pytest.raises(AssertionError, match="allocates nothing"):
        check_layer(Allocates(), [(400, 5)])


def test_what_a_layer_gives_anew_is_said_in_words():
    with pytest.raises(AssertionError, match=r"t.y is bound already: write into the array \(t.y\[...\] = ...\)"):
        check_layer(Rebinds)


def test_what_can_be_checked():
    check_layer(Scale(), [(40, 5)])
    check_layer(Scale(), (40, 5))
    check_layer(Lookup(9), Example(Spec((5, 4), "int64"), Spec((5, 4), "bool"), high=9))
    for arguments in ((Scale(),), (Scale, [(40, 5)]), (np.ones(3),), ("Scale",)):
        with pytest.raises(TypeError, match="check_layer: expected a class of layers, or a layer and its inputs"):
            check_layer(*arguments)
    with pytest.raises(AssertionError, match="Layer: expected one or more examples"):
        check_layer(Layer)
