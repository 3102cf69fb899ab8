"""A model's variables: each belongs to one layer, or to one that is called several times."""

import pytest

from minitrain import Input, Model, layers
from minitrain.graph.graph import SINGLE, Graph, GraphNode
from minitrain.layer import Spec

INPUTS = {"x": Spec((3,))}


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (layers.Dense(4), {"weight": "first.weight"}),  # (4, 3) here, (3, 3) there
        (layers.Dense(3), {"weight": "first.bias"}),
        (layers.PReLU("channel"), {"weight": "first.weight"}),
    ],
)
def test_two_layers_that_name_one_variable_and_disagree_are_refused(layer, names):
    nodes = (GraphNode("first", layers.Dense(3), ("x",)), GraphNode("second", layer, ("first",), names))
    with pytest.raises(ValueError, match=f"^second: shares {names['weight']} with first, where its shape is"):
        Model.from_graph(Graph(INPUTS, nodes, {SINGLE: "second"}))


def test_a_parameter_and_a_state_are_two():
    node = GraphNode("norm", layers.BatchNorm(), ("x",), {"running_var": "norm.gamma"})
    with pytest.raises(ValueError, match=r"norm: shares norm\.gamma with norm"):
        Model.from_graph(Graph(INPUTS, (node,), {SINGLE: "norm"}))


def test_a_layer_that_is_called_again_brings_no_variables():
    x, shared = Input((3,)), layers.Dense(3, name="d")
    model = Model(x, shared(shared(x)))
    assert list(model.params) == ["d.weight", "d.bias"]
    assert model.count_parameters() == 12
    assert model.flat_params.size == 12
    with pytest.raises(ValueError, match=r"^d2: shares d.weight with d, where its shape is \(3, 3\); here it would be"):
        Model(x, shared(layers.Dense(5)(shared(x))))
