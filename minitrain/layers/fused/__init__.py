"""Layers that the fusion pass puts in the place of several; they are not part of a saved graph."""

from minitrain.layer import Layer
from minitrain.layers.fused.batch_norm_add_relu import BatchNormAddReLU
from minitrain.layers.fused.batch_norm_of_moments import BatchNormOfMoments
from minitrain.layers.fused.batch_norm_relu import BatchNormReLU
from minitrain.layers.fused.batch_norm_relu_conv2d import BatchNormReLUConv2d
from minitrain.layers.fused.conv2d_moments import Conv2dMoments
from minitrain.layers.fused.conv2d_relu import Conv2dReLU
from minitrain.layers.fused.inference_conv2d import InferenceConv2d

__all__ = [
    "FUSED_LAYERS", "BatchNormAddReLU", "BatchNormOfMoments", "BatchNormReLU", "BatchNormReLUConv2d", "Conv2dMoments",
    "Conv2dReLU", "InferenceConv2d",
]  # fmt: skip

FUSED_LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        BatchNormReLU,
        BatchNormAddReLU,
        BatchNormReLUConv2d,
        Conv2dMoments,
        Conv2dReLU,
        BatchNormOfMoments,
        InferenceConv2d,
    )
}
