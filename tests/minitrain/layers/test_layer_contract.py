"""Every layer, on every one of its examples, keeps the contract of minitrain/layer.py."""

import importlib
import inspect
import json
import pkgutil
from dataclasses import fields

import gradient_check as check
import numpy as np
import pytest

import minitrain.layers
from minitrain.initializers import Initializer
from minitrain.layer import Layer
from minitrain.layers import LAYERS
from minitrain.layers.fused import FUSED_LAYERS

ALL_LAYERS = LAYERS | FUSED_LAYERS
CASES = [(layer, example) for layer in ALL_LAYERS.values() for example in layer.examples]
TRAINING_CASES = [(layer, example) for layer, example in CASES if layer.trains]
DECLARED = [(layer(**example.arguments).declare(*example.inputs), layer, example) for layer, example in TRAINING_CASES]
ADDING_CASES = [(layer, example) for declared, layer, example in DECLARED if declared.adds_gradient]
SIDE_OUTPUT_CASES = [(layer, example) for declared, layer, example in DECLARED if "moments" in declared.outputs]
IN_PLACE_CASES = [(layer, example) for declared, layer, example in DECLARED if declared.may_share]


def label(value):
    return value.__name__ if inspect.isclass(value) else repr(value)


@pytest.fixture(autouse=True)
def _serial_kernels():
    """The serial form of all kernels, unless a test asks for both: half of the compilation."""
    with check.serial_below(2**62):
        yield


def each_example(function):
    return pytest.mark.parametrize(("layer", "example"), CASES, ids=label)(function)


def each_training_example(function):
    return pytest.mark.parametrize(("layer", "example"), TRAINING_CASES, ids=label)(function)


def defined_layers():
    """All layer classes in public files of the package."""
    for info in pkgutil.walk_packages(minitrain.layers.__path__, "minitrain.layers."):
        if not info.name.rpartition(".")[2].startswith("_"):
            for value in vars(importlib.import_module(info.name)).values():
                if inspect.isclass(value) and issubclass(value, Layer) and value.__module__ == info.name:
                    yield value


def test_every_layer_is_listed():
    for layer in defined_layers():
        line = f"from {layer.__module__} import {layer.__name__} as {layer.__name__}"
        assert ALL_LAYERS.get(layer.__name__) is layer, f"add to the __init__.py beside it: {line}"
    assert {layer.__name__ for layer in defined_layers()} == set(ALL_LAYERS)


@pytest.mark.parametrize("layer", ALL_LAYERS.values(), ids=label)
def test_every_layer_has_examples_a_prefix_and_documentation(layer):
    assert layer.examples, f"{layer.__name__} has no examples"
    assert layer.prefix
    assert layer.__doc__
    assert not layer.__doc__.startswith(f"{layer.__name__}(")


@each_example
def test_arguments_can_be_saved_as_json(layer, example):
    made = layer(**example.arguments)
    for field in fields(made):
        value = getattr(made, field.name)
        if not isinstance(value, (Initializer, Layer)):
            saved = json.loads(json.dumps(value))
            assert layer(**{**example.arguments, field.name: saved}) == made


@each_example
def test_names_of_buffers_are_distinct_and_the_batch_comes_first(layer, example):
    declared = layer(**example.arguments).declare(*example.inputs)
    groups = [declared.outputs, declared.params, declared.state, declared.saved, declared.scratch, declared.derived]
    names = [name for group in [*groups, declared.backward_scratch] for name in group]
    names += [f"d{name}" for name in [*declared.outputs, *declared.params]]
    assert len(names) == len(set(names))
    assert next(iter(declared.outputs)) == "y"
    assert all(spec.shape[0] == example.inputs[0].shape[0] for spec in declared.outputs.values() if spec.gradient)
    inputs = {f"x{index}" for index in range(len(example.inputs))}
    assert set(declared.backward_reads) <= {"x", *inputs, *declared.outputs}


@each_training_example
def test_overwrites_all_it_writes_and_reads_only_what_it_declares(layer, example):
    check.check_overwrites(check.BoundLayer(layer(**example.arguments), example.inputs))


@each_example
def test_inference_follows_parameters_and_state(layer, example):
    check.check_derives(layer(**example.arguments), example.inputs)


@each_example
def test_changes_nothing_it_reads(layer, example):
    check.check_reads_only(check.BoundLayer(layer(**example.arguments), example.inputs))


@each_training_example
def test_gradients(layer, example):
    check.check_gradients(check.BoundLayer(layer(**example.arguments), example.inputs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_training_example
def test_gradients_are_optional(layer, example, dtype):
    check.check_optional_gradients(layer(**example.arguments), example.inputs, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "example"), ADDING_CASES, ids=label)
def test_adds_the_gradient_that_others_found(layer, example, dtype):
    check.check_adds_gradient(layer(**example.arguments), example.inputs, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "example"), IN_PLACE_CASES, ids=label)
def test_works_in_place_where_it_says_so(layer, example, dtype):
    check.check_in_place(layer(**example.arguments), example.inputs, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "example"), SIDE_OUTPUT_CASES, ids=label)
def test_side_outputs_are_the_moments_of_the_output(layer, example, dtype):
    check.check_side_outputs(layer(**example.arguments), example.inputs, dtype)


@each_example
def test_float32_agrees_with_float64(layer, example):
    check.check_float32(layer(**example.arguments), example.inputs)


@each_example
def test_same_bits_for_any_number_of_threads(layer, example):
    check.check_same_bits(layer(**example.arguments), example.inputs, "float32")


@each_example
def test_allocates_nothing(layer, example):
    check.check_allocates_nothing(layer(**example.arguments), example.inputs)


@each_example
def test_infers_without_gradients(layer, example):
    made = layer(**example.arguments)
    trained = check.BoundLayer(made, example.inputs)
    bound = check.BoundLayer(made, example.inputs, training=False)
    before = bound.copies("inputs", "params", "state")
    outputs = bound.infer()
    for name, expected in trained.infer().items():
        assert np.isfinite(outputs[name]).all()
        assert check.same_bits(outputs[name], expected)
    for key, content in bound.copies("inputs", "params", "state").items():
        assert check.same_bits(before[key], content), key
