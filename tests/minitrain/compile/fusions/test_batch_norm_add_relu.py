"""BatchNorm, Add, ReLU -> BatchNormAddReLU."""

import pytest
from fusion_nets import graph_of, kinds

from minitrain import Input, layers
from minitrain.compile.fusions import fuse
from minitrain.graph.graph import SINGLE


@pytest.mark.parametrize("norm_first", [True, False])
def test_residual_block_becomes_one(norm_first):
    x = Input((3, 4, 4))
    skip = layers.ReLU()(x)
    normed = layers.BatchNorm()(layers.Conv2d(3, 3, padding=1)(skip))
    h = layers.Add()(normed, skip) if norm_first else layers.Add()(skip, normed)
    graph = fuse(graph_of([x], layers.ReLU()(h)))
    assert kinds(graph) == ["ReLU", "Conv2d", "BatchNormAddReLU"]
    assert graph.nodes[-1].inputs == ("conv1", "relu1")
    assert graph.outputs[SINGLE] == graph.nodes[-1].name


def test_twice_the_same_value_in_an_add_stays():
    x = Input((3,))
    normed = layers.BatchNorm()(x)
    assert kinds(fuse(graph_of([x], layers.ReLU()(layers.Add()(normed, normed))))) == ["BatchNorm", "Add", "ReLU"]
