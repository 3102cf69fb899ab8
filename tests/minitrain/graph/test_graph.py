"""Nodes, names, tracing."""

from dataclasses import dataclass

import numpy as np
import pytest
from fusion_nets import graph_of

from minitrain import Input, Model, layers
from minitrain.graph.graph import SINGLE
from minitrain.layer import Declaration, Layer, Spec


def test_shapes_have_no_batch_axis():
    x = Input((3, 8, 8))
    h = layers.Conv2d(5, 3, padding=1)(x)
    assert x.shape == (3, 8, 8)
    assert h.shape == (5, 8, 8)
    assert layers.Flatten()(h).shape == (5 * 8 * 8,)


def test_automatic_names_count_and_avoid_given_ones():
    x = Input((4,))
    h = layers.Dense(3, name="dense2")(x)
    h = layers.ReLU()(layers.Dense(3)(h))
    h = layers.Dense(3)(h)
    graph = graph_of([x], h)
    assert [node.name for node in graph.nodes] == ["dense2", "dense1", "relu1", "dense3"]
    assert list(graph.inputs) == ["input"]
    assert graph.outputs[SINGLE] == "dense3"


def test_only_what_leads_to_the_output_belongs():
    x = Input((4,))
    h = layers.ReLU()(x)
    layers.Dense(7)(h)
    assert [node.name for node in graph_of([x], h).nodes] == ["relu1"]


def test_several_inputs_keep_their_order():
    a, b = Input((4,)), Input((4,), name="extra")
    graph = graph_of([b, a], layers.Add()(a, b))
    assert list(graph.inputs) == ["extra", "input"]
    assert graph.nodes[0].inputs == ("input", "extra")


def test_layers_take_nodes_or_a_list_of_them():
    a, b = Input((4,)), Input((4,))
    assert layers.Concat()([a, b]).shape == layers.Concat()(a, b).shape == (8,)


def test_one_name_for_two_layers_is_an_error():
    x = Input((4,))
    with pytest.raises(ValueError, match="'same' stands for more than one layer"):
        graph_of([x], layers.Dense(4, name="same")(layers.Dense(4, name="same")(x)))


def test_one_layer_on_several_nodes_shares_its_variables():
    x = Input((4,))
    shared, other = layers.Dense(4, name="same"), layers.Dense(4, name="same2")
    graph = graph_of([x], other(shared(shared(shared(x)))))
    assert [node.name for node in graph.nodes] == ["same", "same3", "same4", "same2"]
    assert [node.variable("weight") for node in graph.nodes] == ["same.weight"] * 3 + ["same2.weight"]
    unnamed = layers.BatchNorm()
    graph = graph_of([x], unnamed(layers.ReLU()(unnamed(x))))
    assert [node.variable("running_mean") for node in graph.nodes if node.name != "relu1"] == ["bn1.running_mean"] * 2


@pytest.mark.parametrize("name", ["a.b", "", ".", 3, ("a",), b"a"])
def test_names_are_checked_when_they_are_given(name):
    error = ValueError if isinstance(name, str) else TypeError
    for make in (layers.ReLU, lambda name: layers.Dense(3, name=name), lambda name: Input((4,), name=name)):
        with pytest.raises(error, match="name: expected a string that is not empty and has no dots"):
            make(name=name)


def test_unlisted_and_unused_inputs_are_errors():
    a, b = Input((4,)), Input((4,))
    with pytest.raises(ValueError, match="not listed"):
        graph_of([a], layers.Add()(a, b))
    with pytest.raises(ValueError, match="does not lead to the output"):
        graph_of([a, b], layers.ReLU()(a))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0, 2.0]], "got a list"),
        ([1.5], "got a float"),
        (np.ones((2, 3)), r"got an array of shape \(2, 3\); .*Model\(x, y\).predict\(array\)"),
        ((3, 8, 8), r"got the number or shape \(3, 8, 8\); make a node of a shape: Input\("),
        (64, "got the number or shape 64"),
        (layers.Tanh(), r"got the layer Tanh itself; call it on its input first: Tanh\(...\)\(x\)"),
        (layers.Tanh, "got the class Tanh; make one of it first"),
        ((node for node in [Input((4,))]), "got a generator"),
        ({"x": Input((4,))}, "got a dict"),
        ([], "got nothing"),
        ("input", "got a str"),
    ],
)
def test_what_is_no_node_is_said(given, message):
    with pytest.raises(TypeError, match=rf"ReLU: expected nodes \(from Input or from other layers\), {message}"):
        layers.ReLU()(given)


def test_a_model_is_no_node():
    x = Input((4,))
    with pytest.raises(TypeError, match=r"expected nodes .*, got a Model; a net is built from Input"):
        layers.ReLU()(Model(x, layers.Dense(3)(x)))


@dataclass(frozen=True)
class Halves(Layer):
    """Two outputs."""

    def declare(self, *inputs):
        half = Spec((inputs[0].shape[0], inputs[0].shape[1] // 2))
        return Declaration({"y": half, "rest": half})


def test_several_outputs_are_a_named_tuple_of_nodes():
    halves = Halves()(Input((6,)))
    assert (halves.y.shape, halves.rest.shape, halves[1]) == ((3,), (3,), halves.rest)
    assert layers.Add()(halves).shape == layers.Add()(halves.y, halves.rest).shape
    with pytest.raises(ValueError, match=r"^Tanh: .* got 2 \(a HalvesOutputs: pass one .*such as .y\)"):
        layers.Tanh()(halves)


def test_messages_name_the_layer_as_the_user_wrote_it():
    free = Input((None,))
    for layer, start in ((layers.Dense(5), "^Dense: its"), (layers.Dense(5, name="head"), "^head: Dense: its")):
        with pytest.raises(ValueError, match=start + r" weight \(5, None\) depends on a free axis .*\(None,\)"):
            layer(free)
    with pytest.raises(ValueError, match=r"^PReLU: its weight \(None,\) depends on a free axis"):
        layers.PReLU("channel")(Input((None, 4)))
    with pytest.raises(ValueError, match=r"^mine: PReLU: num_parameters: expected 1 or the 5 channels"):
        layers.PReLU(4, name="mine")(Input((5, 3)))


def test_free_axes_stay_free():
    x = Input((3, None, None))
    h = layers.MaxPool2d(2)(layers.Conv2d(4, 3)(x))
    assert h.shape == (4, None, None)
    assert layers.GlobalAvgPool()(h).shape == (4,)


@pytest.mark.parametrize("shape", [(), (0, 3), (3, -1), (4.7,)])
def test_input_shapes_are_checked(shape):
    with pytest.raises(ValueError, match="shape: expected positive sizes"):
        Input(shape)


def test_shapes_that_do_not_fit_name_the_layer():
    with pytest.raises(ValueError, match="Add"):
        layers.Add()(Input((4,)), Input((5,)))
