"""The layers, one file each. Arguments follow PyTorch; the number of inputs is read from the graph."""

from minitrain.layer import Layer
from minitrain.layers.add import Add
from minitrain.layers.avg_pool2d import AvgPool2d
from minitrain.layers.batch_norm import BatchNorm
from minitrain.layers.concat import Concat
from minitrain.layers.conv2d import Conv2d
from minitrain.layers.dense import Dense
from minitrain.layers.dropout import Dropout
from minitrain.layers.flatten import Flatten
from minitrain.layers.global_avg_pool import GlobalAvgPool
from minitrain.layers.leaky_relu import LeakyReLU
from minitrain.layers.max_pool2d import MaxPool2d
from minitrain.layers.prelu import PReLU
from minitrain.layers.relu import ReLU
from minitrain.layers.sigmoid import Sigmoid
from minitrain.layers.tanh import Tanh

__all__ = [
    "LAYERS",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Concat",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "LeakyReLU",
    "MaxPool2d",
    "PReLU",
    "ReLU",
    "Sigmoid",
    "Tanh",
]

# The fixed set that a saved graph may name: loading looks classes up here and imports nothing.
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Add,
        AvgPool2d,
        BatchNorm,
        Concat,
        Conv2d,
        Dense,
        Dropout,
        Flatten,
        GlobalAvgPool,
        LeakyReLU,
        MaxPool2d,
        PReLU,
        ReLU,
        Sigmoid,
        Tanh,
    )
}
