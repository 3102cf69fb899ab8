"""Batch normalization on a CPU: Numba kernels, the same bits for any number of threads."""

from nbnorm.batch_norm import (
    BatchNormGradients,
    BatchNormStats,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_infer,
)
from nbnorm.config import show_config
from nbnorm.folding import batch_norm_inverse, fold_batch_norm
from nbnorm.warmup import warmup

__all__ = [
    "BatchNormGradients",
    "BatchNormStats",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_infer",
    "batch_norm_inverse",
    "fold_batch_norm",
    "show_config",
    "warmup",
]
