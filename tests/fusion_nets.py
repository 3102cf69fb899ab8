"""Small nets with what the fusion patterns look for."""

from minitrain import Input, Model, layers
from minitrain.graph.graph import SINGLE, trace


def graph_of(inputs, output):
    """The graph of a net that returns one array."""
    return trace(inputs, {SINGLE: output})[0]


def kinds(graph):
    return [type(node.layer).__name__ for node in graph.nodes]


def two_convolutions(fuse=True, dtype="float32", kernel_size=3):
    x = Input((3, 16, 16))
    h = layers.ReLU()(layers.BatchNorm(momentum=0.3)(layers.Conv2d(32, 3, padding=1, bias=False)(x)))
    h = layers.Conv2d(32, kernel_size, padding=1)(h)
    return Model(x, layers.Dense(3)(layers.Flatten()(h)), fuse=fuse, dtype=dtype)


def wide_residual_net(fuse=True):
    x = Input((32, 16, 16))
    inner = layers.ReLU()(layers.BatchNorm(momentum=None)(layers.Conv2d(32, 3, padding=1, bias=False)(x)))
    inner = layers.BatchNorm(eps=1e-3)(layers.Conv2d(32, 3, padding=1)(inner))
    h = layers.ReLU()(layers.Add()(inner, x))
    h = layers.BatchNorm()(layers.Conv2d(40, 3)(h))
    return Model(x, layers.Dense(3)(layers.Flatten()(h)), seed=2, fuse=fuse)


def plain_net(dtype):
    x = Input((1, 8, 8))
    h = layers.ReLU()(layers.Conv2d(4, 3, padding=1)(x))
    h = layers.ReLU()(layers.Conv2d(8, 3, stride=2, bias=False)(h))
    h = layers.LeakyReLU(0.1)(layers.Dense(9)(layers.Flatten()(h)))
    h = layers.Tanh()(layers.Dense(8, bias=False)(layers.Sigmoid()(layers.Dense(7)(h))))
    return Model(x, layers.Dense(3)(h), dtype=dtype)


def residual_net(fuse, dtype):
    x = Input((3, 6, 6))
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(x)))
    skip = h
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(h)))
    h = layers.BatchNorm()(layers.Conv2d(4, 3, padding=1, bias=False)(h))
    h = layers.ReLU()(layers.Add()(h, skip))
    return Model(x, layers.Dense(5)(layers.Flatten()(h)), seed=3, dtype=dtype, fuse=fuse)
