"""A model's variables: named once, views for good, and nothing copied in that is not what was meant."""

import numpy as np
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


def test_layers_that_name_one_variable_agree_about_it():
    nodes = (
        GraphNode("first", layers.Dense(3), ("x",)),
        GraphNode("second", layers.Dense(3), ("first",), {"weight": "first.weight"}),
    )
    assert Model.from_graph(Graph({"x": Spec((3,))}, nodes, {SINGLE: "second"})).count_parameters() == 9 + 3 + 3
    with pytest.raises(ValueError, match=r"second: shares first\.weight with first, where its shape is \(3, 4\)"):
        Model.from_graph(Graph({"x": Spec((4,))}, nodes, {SINGLE: "second"}))


def test_parameters_and_state_do_not_share_a_name():
    node = GraphNode("norm", layers.BatchNorm(), ("x",), {"running_var": "norm.gamma"})
    with pytest.raises(ValueError, match=r"shares norm\.gamma with norm"):
        Model.from_graph(Graph({"x": Spec((3,))}, (node,), {SINGLE: "norm"}))


def net(dtype="float32", seed=0):
    x = Input((4,))
    h = layers.Dropout(0.2, name="drop")(layers.BatchNorm(name="bn")(layers.Dense(3, name="a")(x)))
    return Model(x, layers.Dense(2, name="b")(h), seed=seed, dtype=dtype)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1, 2], ValueError, r"expected shape \(3,\), got \(2,\)"),
        (0, ValueError, r"expected shape \(3,\), got \(\); to fill it with one value, write \[\.\.\.\] = 0"),
        ([[1], [2, 3]], ValueError, r"expected shape \(3,\), got lists of different lengths"),
        ([1j, 2, 3], TypeError, "expected numbers, got list of dtype complex128"),
        (np.zeros(3, "c8"), TypeError, "expected numbers, got dtype complex64"),
        (["a", "b", "c"], TypeError, "expected numbers, got list of dtype <U1"),
        (np.array([1, 2, 3], object), TypeError, "expected numbers, got dtype object"),
        ([None, 1, 2], TypeError, "expected numbers, got list of dtype object"),
        (np.zeros(3, "M8[s]"), TypeError, "expected numbers"),
        ([0, 1e300, 0], ValueError, r"expected values that float32 holds, got 1e\+300"),
    ],
)
def test_what_a_float_array_does_not_take(value, error, message):
    model = net()
    before = model.flat_params.copy()
    with pytest.raises(error, match=f"a.bias: {message}"):
        model.params["a.bias"] = value
    with pytest.raises(error, match=f"a.bias: {message}"):
        model.params.update({"a.weight": np.ones((3, 4)), "a.bias": value})
    with pytest.raises(error, match=f"a.bias: {message}"):
        model.params = {**model.params, "a.bias": value}
    np.testing.assert_array_equal(model.flat_params, before)


@pytest.mark.parametrize("value", [[True, False, True], [1, 2, 3], np.arange(3.0)[::-1], [np.inf, -np.inf, np.nan]])
def test_what_a_float_array_takes(value):
    model = net()
    model.params["a.bias"] = value
    np.testing.assert_array_equal(model.params["a.bias"], np.asarray(value, "f4"))


@pytest.mark.parametrize(
    ("value", "error"), [([1.0], TypeError), ([np.nan], TypeError), ([-1], ValueError), ([2**64], TypeError)]
)
def test_whole_numbers_stay_whole(value, error):
    model = net()
    with pytest.raises(error, match=r"drop\.calls: expected"):
        model.state["drop.calls"] = value
    model.state["drop.calls"] = [2**64 - 1]
    assert model.state["drop.calls"][0] == 2**64 - 1


def test_names_that_there_are_not():
    model = net()
    with pytest.raises(KeyError, match=r"parameter 'a\.weigth': expected one of .* \(did you mean 'a\.weight'"):
        model.params["a.weigth"] = np.zeros((3, 4))
    with pytest.raises(KeyError, match="parameter 'c': expected one of"):
        model.params.update({"c": 1})
    with pytest.raises(ValueError, match=r"did you mean .a\.weight."):
        model.params = {**model.params, "a.weights": 1}
    with pytest.raises(ValueError, match=r"parameters: expected all of them, .b\.weight., .b\.bias. left out"):
        model.params = {name: each for name, each in model.params.items() if not name.startswith("b.")}
    with pytest.raises(TypeError, match=r"state .bn\.running_var.: cannot be deleted"):
        del model.state["bn.running_var"]
    for wrong in (np.zeros(3), [1], None, 3):
        with pytest.raises(TypeError, match="parameters: expected a mapping of name to array"):
            model.params = wrong
    with pytest.raises(AttributeError, match="nothing of it can be assigned"):
        model.params.weight = 0


def test_arrays_that_overlap_are_copied_first():
    model = net()
    model.state["bn.running_mean"], model.state["bn.running_var"] = [1, 2, 3], [4, 5, 6]
    mean, var = model.state["bn.running_mean"], model.state["bn.running_var"]
    model.state.update({"bn.running_mean": var, "bn.running_var": mean})
    assert (mean.tolist(), var.tolist()) == ([4, 5, 6], [1, 2, 3])
    model.flat_params = model.flat_params[::-1]
    np.testing.assert_array_equal(model.flat_params, net().flat_params[::-1])


def test_assigning_in_place():
    model = net()
    before = model.flat_params.copy()
    model.params["a.weight"] *= 2
    model.flat_params /= 2
    np.testing.assert_array_equal(model.params["a.weight"], net().params["a.weight"])
    model.params |= {"b.bias": [5, 6]}
    assert model.params["b.bias"].tolist() == [5, 6]
    assert not np.array_equal(model.flat_params, before)
