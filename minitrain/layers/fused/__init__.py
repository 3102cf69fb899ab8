"""Layers that the fusion pass puts in the place of several; they are not part of a saved graph.

As in `minitrain.layers`, the line of import registers a layer.
"""

from minitrain.layer import Layer
from minitrain.layers._registered import layers_of
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU as BatchNormAddReLU
from minitrain.layers.fused.batch_norm_of_moments import BatchNormOfMoments as BatchNormOfMoments
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU as BatchNormReLU
from minitrain.layers.fused.batch_norm_relu_conv2d import BatchNormReLUConv2d as BatchNormReLUConv2d
from minitrain.layers.fused.conv2d_moments import Conv2dMoments as Conv2dMoments
from minitrain.layers.fused.conv2d_relu import Conv2dReLU as Conv2dReLU
from minitrain.layers.fused.dropout_of_part import DropoutOfPart as DropoutOfPart
from minitrain.layers.fused.frozen_batch_norm import FrozenBatchNorm as FrozenBatchNorm
from minitrain.layers.fused.frozen_conv2d_batch_norm import FrozenConv2dBatchNorm as FrozenConv2dBatchNorm
from minitrain.layers.fused.inference_conv2d import InferenceConv2d as InferenceConv2d
from minitrain.layers.fused.row_norm_relu import RowNormReLU as RowNormReLU
from minitrain.layers.fused.synchronized_batch_norm import SynchronizedBatchNorm as SynchronizedBatchNorm

FUSED_LAYERS: dict[str, type[Layer]] = layers_of(globals())
__all__ = sorted({"FUSED_LAYERS", *FUSED_LAYERS})
