"""The layers, one file each. Arguments follow PyTorch; the number of inputs is read from the graph.

A layer is registered by its line of import here, and nowhere else: `LAYERS`, the names that this package offers, what
a saved model may name, what the contract tests run and what the benchmarks measure follow from it.
"""

from minitrain.layer import Layer
from minitrain.layers._registered import layers_of
from minitrain.layers._renorm import Renorm as Renorm
from minitrain.layers.add import Add as Add
from minitrain.layers.avg_pool2d import AvgPool2d as AvgPool2d
from minitrain.layers.batch_norm import BatchNorm as BatchNorm
from minitrain.layers.concat import Concat as Concat
from minitrain.layers.conditional_batch_norm import ConditionalBatchNorm as ConditionalBatchNorm
from minitrain.layers.conv2d import Conv2d as Conv2d
from minitrain.layers.dense import Dense as Dense
from minitrain.layers.dropout import Dropout as Dropout
from minitrain.layers.filter_response_norm import FilterResponseNorm as FilterResponseNorm
from minitrain.layers.flatten import Flatten as Flatten
from minitrain.layers.global_avg_pool import GlobalAvgPool as GlobalAvgPool
from minitrain.layers.group_norm import GroupNorm as GroupNorm
from minitrain.layers.instance_norm import InstanceNorm as InstanceNorm
from minitrain.layers.layer_norm import LayerNorm as LayerNorm
from minitrain.layers.leaky_relu import LeakyReLU as LeakyReLU
from minitrain.layers.max_pool2d import MaxPool2d as MaxPool2d
from minitrain.layers.prelu import PReLU as PReLU
from minitrain.layers.relu import ReLU as ReLU
from minitrain.layers.relu6 import ReLU6 as ReLU6
from minitrain.layers.rms_norm import RMSNorm as RMSNorm
from minitrain.layers.sigmoid import Sigmoid as Sigmoid
from minitrain.layers.silu import SiLU as SiLU
from minitrain.layers.tanh import Tanh as Tanh
from minitrain.layers.weight_standardized_conv2d import WeightStandardizedConv2d as WeightStandardizedConv2d

# The fixed set that a saved graph may name: loading looks classes up here and imports nothing.
LAYERS: dict[str, type[Layer]] = layers_of(globals())
__all__ = sorted({"LAYERS", "Renorm", *LAYERS})  # type checkers go by the form of the imports
