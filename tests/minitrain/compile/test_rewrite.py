"""The rewrite engine: what a pattern sees, where its replacement goes, which names change."""

import numpy as np
from fusion_nets import graph_of, kinds

from minitrain import Input, layers
from minitrain.compile.rewrite import Replacement, View, rewrite
from minitrain.graph.graph import SINGLE, GraphNode


def chain_of(*kinds_in_order, name_of_last=False):
    """A pattern: these layers, each read by the next alone, become one LeakyReLU under the first or the last name."""

    def pattern(node, view):
        found = [node]
        for kind in reversed(kinds_in_order):
            if found[0] is None or type(found[0].layer) is not kind:
                return None
            found.insert(0, view.private_giver(found[0].inputs[0]))
        found = found[1:]
        name = found[-1 if name_of_last else 0].name
        return Replacement(tuple(found), GraphNode(name, layers.LeakyReLU(0.5), found[0].inputs))

    return pattern


def edges(graph):
    return [(node.name, type(node.layer).__name__, node.inputs) for node in graph.nodes]


def tanh_and_relu(extra_reader=False):
    x = Input((3,))
    tanh = layers.Tanh()(x)
    relu = layers.ReLU()(tanh)
    sigmoid = layers.Sigmoid()(relu)
    return graph_of([x], layers.Add()(sigmoid, tanh if extra_reader else relu))


def test_a_chain_becomes_one_node_under_either_name():
    graph = rewrite(tanh_and_relu(), [chain_of(layers.Tanh, layers.ReLU)])
    assert edges(graph) == [
        ("tanh1", "LeakyReLU", ("input",)), ("sigmoid1", "Sigmoid", ("tanh1",)), ("add1", "Add", ("sigmoid1", "tanh1")),
    ]  # fmt: skip
    graph = rewrite(tanh_and_relu(), [chain_of(layers.Tanh, layers.ReLU, name_of_last=True)])
    assert edges(graph)[0] == ("relu1", "LeakyReLU", ("input",))
    assert edges(graph)[1:] == edges(tanh_and_relu())[2:]


def test_a_value_that_others_read_does_not_disappear():
    graph = tanh_and_relu(extra_reader=True)
    assert rewrite(graph, [chain_of(layers.Tanh, layers.ReLU)]) is graph


def test_the_models_output_does_not_disappear_but_may_get_another_name():
    x = Input((3,))
    tanh = layers.Tanh()(x)
    graph = graph_of([x], tanh)
    assert View(graph).private_giver("tanh1") is None
    graph = rewrite(graph_of([x], layers.ReLU()(tanh)), [chain_of(layers.Tanh, layers.ReLU)])
    assert (graph.outputs[SINGLE], edges(graph)) == ("tanh1", [("tanh1", "LeakyReLU", ("input",))])


def test_the_new_node_stands_where_the_last_one_stood():
    x, other = Input((3,)), Input((3,))
    tanh = layers.Tanh()(x)
    sigmoid = layers.Sigmoid()(other)  # between the two that become one
    graph = graph_of([x, other], layers.Add()(layers.ReLU()(tanh), sigmoid))
    graph = rewrite(graph, [chain_of(layers.Tanh, layers.ReLU)])
    assert [node.name for node in graph.nodes] == ["sigmoid1", "tanh1", "add1"]
    assert graph.nodes[-1].inputs == ("tanh1", "sigmoid1")


def test_a_node_goes_into_one_replacement():
    x = Input((3,))
    h = x
    for _ in range(5):
        h = layers.Tanh()(h)
    graph = rewrite(graph_of([x], h), [chain_of(layers.Tanh, layers.Tanh)])
    assert edges(graph) == [
        ("tanh1", "LeakyReLU", ("input",)), ("tanh3", "LeakyReLU", ("tanh1",)), ("tanh5", "Tanh", ("tanh3",)),
    ]  # fmt: skip


def test_later_patterns_see_what_earlier_ones_made():
    x = Input((3,))
    graph = graph_of([x], layers.Sigmoid()(layers.ReLU()(layers.Tanh()(x))))
    both = [chain_of(layers.Tanh, layers.ReLU), chain_of(layers.LeakyReLU, layers.Sigmoid)]
    assert kinds(rewrite(graph, both)) == ["LeakyReLU"]
    assert kinds(rewrite(graph, both[::-1])) == ["LeakyReLU", "Sigmoid"]


def test_names_of_further_outputs_follow_their_node():
    def reads_a_part(node, view):
        if type(node.layer) is not layers.Add:
            return None
        return Replacement((node,), GraphNode(node.name, node.layer, (node.inputs[0], "relu1.z"), node.names))

    graph = rewrite(tanh_and_relu(), [reads_a_part])
    assert rewrite(graph, [chain_of(layers.Tanh, layers.ReLU)]).nodes[-1].inputs == ("sigmoid1", "tanh1.z")


def test_what_a_view_knows():
    graph = tanh_and_relu()
    view = View(graph, np.dtype("float32"))
    tanh, relu, sigmoid, add = graph.nodes
    assert view.giver("input") is None
    assert view.giver("relu1") is relu
    assert view.readers("relu1") == [sigmoid, add]
    assert view.readers("add1") == []
    assert view.only_reader(tanh) is relu
    assert view.only_reader(relu) is None
    assert view.only_reader(add) is None  # what the model returns
    assert view.input_shape(add)[1:] == (3,)
