"""A kernel is compiled once for each dtype, whatever a call leaves out: what is absent has the type of what is not."""

import contextlib

import numpy as np
import pytest
from numba import typeof
from signatures import differ_only_in_shape, recorded

from benchmarks.bits import NETS
from minitrain import Model, losses
from minitrain.layers import LAYERS
from minitrain.layers.fused import FUSED_LAYERS
from minitrain.objective.objective import Objective
from minitrain.testing.bound_layer import BoundLayer
from minitrain.training.ahead import calls_of_a_step
from nbnorm.jit.arrays import nothing

ALL_LAYERS = LAYERS | FUSED_LAYERS
LABELS = losses.SoftmaxCrossEntropy()


def steps_of(graph, dtype, batch, optimizer):
    objective = Objective(Model.from_graph(graph, dtype=dtype), LABELS)
    shapes = tuple(graph.input_shapes(batch).values())
    return calls_of_a_step(graph, dtype, True, shapes, objective, optimizer, [((batch,), "int64")])


def run_all(calls):
    for call in calls:
        with contextlib.suppress(TypeError):  # a loss that was not computed is no number
            call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_a_step_compiles_each_kernel_once(name, dtype):
    make, _, batch, optimizer = NETS[name]
    with recorded() as signatures:
        run_all(steps_of(make().graph, dtype, batch, optimizer()))
    assert len(signatures) > 5
    assert {form.py_func.__name__: each for form, each in signatures.items() if len(each) > 1} == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optional_arrays_do_not_change_a_signature(dtype):
    """Over all layers, nets with and without residuals, for training and for inference, large and small."""
    with recorded() as signatures, np.errstate(all="ignore"):
        for layer in ALL_LAYERS.values():
            for example in layer.examples:
                bound = BoundLayer(layer(**example.arguments), example, dtype)
                bound.infer()
                if bound.training:
                    bound.forward()
                    bound.backward()
        for make, shape, batch, optimizer in NETS.values():
            run_all(steps_of(make().graph, dtype, batch, optimizer()))
            Model.from_graph(make().graph, dtype=dtype).predict(np.zeros((batch, *shape), dtype))
    assert len(signatures) > 40
    twice = {form.py_func.__name__: [*differ_only_in_shape(each)] for form, each in signatures.items()}
    assert {name: pairs for name, pairs in twice.items() if pairs} == {}


def test_an_absent_array_with_fewer_axes_is_seen():
    x = np.zeros((2, 3, 4), "float32")
    given, absent, wrong = ((np.float32(1), array) for array in (x, nothing("float32", 3), nothing("float32", 2)))
    types = [tuple(map(typeof, each)) for each in (given, absent, wrong)]
    assert [*differ_only_in_shape(types[:2])] == []
    assert [*differ_only_in_shape(types)] == [(types[0], types[2])]
