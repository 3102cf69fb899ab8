"""The base of all layers: names, arrays that are bound once, examples."""

import copy
import inspect
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest

from minitrain import layers
from minitrain.layer import Example, Layer, Spec, Tensors


def test_a_name_comes_along_and_is_checked_wherever_it_is_given():
    layer = layers.Dense(3, name="head")
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), replace(layer, out_features=3)):
        assert again == layer
        assert again.name == "head"
    assert layers.Dense(3) != layer
    assert layers.Dense(3).name is None
    assert list(inspect.signature(layers.ReLU).parameters) == ["name"]
    with pytest.raises(ValueError, match=r"name: .*, got 'a.b'"):
        replace(layer, name="a.b")


def test_subclasses_with_an_init_or_a_check_of_their_own_keep_the_name():
    class Own(Layer):
        def __init__(self, size):
            object.__setattr__(self, "size", size)

    @dataclass(frozen=True)
    class Checked(Layer):
        size: int = 3

        def __post_init__(self):
            assert self.size

    assert Own(3).name is None
    assert Checked(4, name="c").name == "c"
    with pytest.raises(TypeError, match="name: expected a string"):
        Checked(4, name=7)


def test_what_is_bound_cannot_be_bound_anew():
    x, y, w = np.ones(3), np.zeros(3), np.ones(1)
    t = Tensors([x], [None], {"y": y, "dy": None, "weight": w, "dweight": None}, ys=[y])
    t.run = len  # what a layer adds
    t.run = sum
    assert t.dx is None
    for name in ("x", "xs", "dx", "dxs", "y", "ys", "dy", "weight", "dweight", "dx_before"):
        with pytest.raises(AttributeError, match=rf"t\.{name} is bound already: write into the array"):
            setattr(t, name, np.ones(3))
    with pytest.raises(ValueError, match="x: expected one array of this name in a layer, got two"):
        Tensors([x], None, {"x": y})


def test_examples_are_checked():
    assert Example((4, 3), x=Spec((4,), "int64")).shapes == ((4, 3), (4,))
    with pytest.raises(ValueError, match="computed: expected names of inputs"):
        Example((4, 3), computed={"x1": np.mean})
    with pytest.raises(ValueError, match="computed: expected names of inputs"):
        Example()
