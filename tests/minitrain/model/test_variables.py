"""A model's variables: each belongs to one layer."""

import pytest

from minitrain import Model, layers
from minitrain.graph.graph import Graph, GraphNode


@pytest.mark.parametrize("names", [{"weight": "first.weight"}, {"weight": "first.bias"}])
def test_two_layers_that_name_one_variable_are_refused(names):
    nodes = (GraphNode("first", layers.Dense(3), ("x",)), GraphNode("second", layers.Dense(3), ("first",), names))
    graph = Graph({"x": (3,)}, nodes, "second")
    with pytest.raises(
        ValueError, match=f"{names['weight']}: expected a variable of one layer .*, got first and second"
    ):
        Model.from_graph(graph)


def test_names_within_one_layer_are_two():
    node = GraphNode("norm", layers.BatchNorm(), ("x",), {"running_var": "norm.gamma"})
    with pytest.raises(ValueError, match=r"norm\.gamma: expected a variable of one layer"):
        Model.from_graph(Graph({"x": (3,)}, (node,), "norm"))
