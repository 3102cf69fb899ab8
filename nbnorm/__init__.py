"""Normalization on a CPU: Numba kernels, the same bits for any number of threads."""

from nbnorm.batch_norm import (
    BatchNormGradients,
    BatchNormStats,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_infer,
)
from nbnorm.config import show_config
from nbnorm.filter_response_norm import (
    FilterResponseNormGradients,
    FilterResponseNormStats,
    filter_response_norm_backward,
    filter_response_norm_forward,
)
from nbnorm.folding import batch_norm_inverse, fold_batch_norm
from nbnorm.group_norm import GroupNormStats, group_norm_backward, group_norm_forward
from nbnorm.instance_norm import InstanceNormStats, instance_norm_backward, instance_norm_forward
from nbnorm.layer_norm import LayerNormStats, layer_norm_backward, layer_norm_forward
from nbnorm.rms_norm import RMSNormStats, rms_norm_backward, rms_norm_forward
from nbnorm.row_norms import NormGradients
from nbnorm.warmup import warmup
from nbnorm.weight_standardization import (
    WeightStandardizationStats,
    weight_standardization_backward,
    weight_standardization_forward,
)

__all__ = [
    "BatchNormGradients",
    "BatchNormStats",
    "FilterResponseNormGradients",
    "FilterResponseNormStats",
    "GroupNormStats",
    "InstanceNormStats",
    "LayerNormStats",
    "NormGradients",
    "RMSNormStats",
    "WeightStandardizationStats",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_infer",
    "batch_norm_inverse",
    "filter_response_norm_backward",
    "filter_response_norm_forward",
    "fold_batch_norm",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "rms_norm_backward",
    "rms_norm_forward",
    "show_config",
    "warmup",
    "weight_standardization_backward",
    "weight_standardization_forward",
]
