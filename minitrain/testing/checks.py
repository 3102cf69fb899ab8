"""The checks of what a layer writes and reads in training. Each raises AssertionError in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from minitrain.layer import Layer
from minitrain.testing.bound_layer import READ_BY_FORWARD, BoundLayer
from minitrain.testing.drawing import Inputs, as_example, is_finite, larger, same_bits

__all__ = [
    "check_adds_gradient",
    "check_declaration",
    "check_in_place",
    "check_optional_gradients",
    "check_overwrites",
    "check_reads_only",
    "check_remembers_nothing",
]


def check_declaration(layer: Layer, inputs: Inputs) -> None:
    """The batch comes first, and neither parameters, state nor derived arrays know how large it is."""
    example = as_example(inputs)
    declared, more = layer.declare(*example.inputs), layer.declare(*larger(inputs, 3).inputs)
    batch = example.inputs[0].shape[0]
    for name, spec in declared.outputs.items():
        assert not spec.gradient or spec.shape[:1] == (batch,), f"{name}: expected ({batch}, ...), got {spec.shape}"
    for kind in ("params", "state", "derived"):
        for name, one in getattr(declared, kind).items():
            other = getattr(more, kind)[name]
            assert one.shape == other.shape, f"{name} ({kind}) depends on the batch: {one.shape}, then {other.shape}"
    moved = ", ".join(layer.statistics)
    assert not moved or set(layer.statistics) & set(declared.state), f"statistics: expected names of state, got {moved}"
    known = {"x", *(f"x{index}" for index in range(len(example.inputs))), *declared.outputs}
    unknown = set(declared.backward_reads) - known
    assert not unknown, f"backward_reads: expected some of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}"


def check_overwrites(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Whatever the contract says is written is written: nothing of the poison is left."""
    bound = BoundLayer(layer, inputs, dtype)
    bound.least = True
    first = {name: array.copy() for name, array in bound.forward().items()}
    bound.least = False
    for name, array in bound.forward().items():
        written = is_finite(array) and same_bits(array, first[name])  # integers have no NaN: it would be what was there
        assert written, f"forward leaves {name} as it was, or reads memory that holds rubbish"
    for kind in ("state", "carried"):
        for name, array in bound.groups[kind].items():
            assert is_finite(array), f"forward spoils {name}"
    for name, array in bound.backward().items():
        assert is_finite(array), f"backward leaves {name} as it was, or reads what it does not declare"


def check_reads_only(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Nothing that is read is modified, in any of the four calls."""
    bound = BoundLayer(layer, inputs, dtype)
    calls: list[tuple[Callable[[], object], tuple[str, ...]]] = [
        (bound.derive, (*READ_BY_FORWARD, "state", "carried")),
        (bound.infer_again, (*READ_BY_FORWARD, "state", "derived")),
    ]
    if bound.training:
        kept = ("outputs", "output_gradients", "state", "carried", "saved", "derived")
        calls = [
            (bound.forward, (*READ_BY_FORWARD, "output_gradients")),
            (bound.backward, (*READ_BY_FORWARD, *kept)),
            *calls,
        ]
    for call, read in calls:
        before = bound.copies(*read)
        call()
        for (group, name), content in before.items():
            assert same_bits(content, bound.groups[group][name]), f"{call.__name__} changes {name} ({group})"


def check_remembers_nothing(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """What a call gives follows from inputs, parameters, state and what is carried, not from the calls before.

    So a reset (nothing carried, the first state) gives the first call's bits.
    """
    for training in (True, False) if layer.trains else (False,):
        bound = BoundLayer(layer, inputs, dtype, training)
        call = bound.forward if training else bound.infer
        again = bound.forward_again if training else bound.infer_again
        xs = [x.copy() for x in bound.xs]
        first = {name: array.copy() for name, array in call().items()}
        for x in bound.xs:
            x[...] = np.roll(x.reshape(-1), 1).reshape(x.shape)
        again()
        if training:
            bound.backward()
        for x, content in zip(bound.xs, xs, strict=True):
            x[...] = content
        for name, array in call().items():
            assert same_bits(array, first[name]), (
                f"{name} depends on earlier calls: declare what goes from call to call as carried"
            )


def check_optional_gradients(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Leaving out gradients changes no bit of any other: each alone, each but one, those of all inputs, of all params.

    What is left out is None, as for an input that nobody differentiates by, or for a frozen parameter.
    """
    whole = BoundLayer(layer, inputs, dtype)
    whole.forward()
    expected = {name: array.copy() for name, array in whole.backward().items()}
    of_inputs = set(whole.groups["input_gradients"])
    of_params = set(whole.groups["param_gradients"])
    everything = of_inputs | of_params
    choices = [{name} for name in everything] + [everything - {name} for name in everything]
    for left_out in (*choices, of_inputs, of_params, everything):
        bound = BoundLayer(layer, inputs, dtype, left_out=left_out)
        bound.forward()
        without = f"without {', '.join(sorted(left_out))}"
        try:
            got = bound.backward()
        except (TypeError, AttributeError) as error:
            raise AssertionError(f"backward {without}, which are None where nobody wants them: {error}") from error
        for name, array in got.items():
            assert same_bits(array, expected[name]), f"{name} {without} is another one"


def check_adds_gradient(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Backward adds the gradient that others have found to that of the input, and to nothing else."""
    plain, adding = BoundLayer(layer, inputs, dtype), BoundLayer(layer, inputs, dtype)
    if not plain.declaration.adds_gradient:
        return
    before = np.random.default_rng(1).standard_normal(plain.xs[0].shape).astype(dtype)
    kept = before.copy()
    adding.dx_before = before
    adding.bind()
    for bound in (plain, adding):
        bound.forward()
        bound.backward()
    assert same_bits(before, kept), "backward changes dx_before"
    expected = plain.groups["input_gradients"]["dx0"] + before
    assert np.array_equal(adding.groups["input_gradients"]["dx0"], expected), "backward does not add dx_before to dx"
    for name, array in plain.groups["param_gradients"].items():
        assert same_bits(adding.groups["param_gradients"][name], array), f"dx_before changes {name}"


def check_in_place(layer: Layer, inputs: Inputs, dtype: npt.DTypeLike = "float64") -> None:
    """Gradients of inputs in every memory that `may_share` names, one by one and together, have the same bits."""
    places = layer.declare(*as_example(inputs).inputs).may_share
    choices = [{name: place} for name in places for place in places[name]]
    if places:
        choices.append({name: places[name][0] for name in places})
    for choice in choices:
        separate, shared = BoundLayer(layer, inputs, dtype), BoundLayer(layer, inputs, dtype)
        separate.forward()
        separate.backward()
        shared.forward()
        for name, place in choice.items():
            groups = shared.groups["output_gradients"] | shared.groups["inputs"]
            shared.groups["input_gradients"][name] = groups[place]
        shared.bind()
        layer.backward(shared.tensors)
        for group in ("input_gradients", "param_gradients"):
            for name, array in separate.groups[group].items():
                where = ", ".join(f"{name} in the memory of {place}" for name, place in choice.items())
                assert same_bits(shared.groups[group][name], array), f"{name} is another one with {where}"
