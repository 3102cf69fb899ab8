"""Nodes, names, tracing."""

import pytest

from minitrain import Input, layers
from minitrain.graph.graph import trace


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
    graph = trace([x], h)
    assert [node.name for node in graph.nodes] == ["dense2", "dense1", "relu1", "dense3"]
    assert list(graph.inputs) == ["input"]
    assert graph.output == "dense3"


def test_only_what_leads_to_the_output_belongs():
    x = Input((4,))
    h = layers.ReLU()(x)
    layers.Dense(7)(h)
    assert [node.name for node in trace([x], h).nodes] == ["relu1"]


def test_several_inputs_keep_their_order():
    a, b = Input((4,)), Input((4,), name="extra")
    graph = trace([b, a], layers.Add()(a, b))
    assert list(graph.inputs) == ["extra", "input"]
    assert graph.nodes[0].inputs == ("input", "extra")


def test_layers_take_nodes_or_a_list_of_them():
    a, b = Input((4,)), Input((4,))
    assert layers.Concat()([a, b]).shape == layers.Concat()(a, b).shape == (8,)


def test_one_name_for_two_layers_is_an_error():
    x = Input((4,))
    shared = layers.Dense(4, name="same")
    with pytest.raises(ValueError, match="'same' stands for more than one layer"):
        trace([x], shared(shared(x)))


def test_a_dot_in_a_name_is_an_error():
    x = Input((4,))
    with pytest.raises(ValueError, match="without dots"):
        trace([x], layers.ReLU(name="a.b")(x))


def test_unlisted_and_unused_inputs_are_errors():
    a, b = Input((4,)), Input((4,))
    with pytest.raises(ValueError, match="not listed"):
        trace([a], layers.Add()(a, b))
    with pytest.raises(ValueError, match="does not lead to the output"):
        trace([a, b], layers.ReLU()(a))


def test_arrays_are_not_nodes():
    with pytest.raises(TypeError, match="ReLU: expected nodes"):
        layers.ReLU()([[1.0, 2.0]])


@pytest.mark.parametrize("shape", [(), (0, 3), (3, -1), (4.7,)])
def test_input_shapes_are_checked(shape):
    with pytest.raises(ValueError, match="shape: expected positive sizes"):
        Input(shape)


def test_shapes_that_do_not_fit_name_the_layer():
    with pytest.raises(ValueError, match="Add"):
        layers.Add()(Input((4,)), Input((5,)))
