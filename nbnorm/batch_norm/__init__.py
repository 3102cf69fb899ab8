"""Batch normalization as a user calls it: argument checks, output arrays, choice of kernel."""

from nbnorm.batch_norm.gradients import batch_norm_backward
from nbnorm.batch_norm.inference import batch_norm_infer
from nbnorm.batch_norm.parts import BatchNormGradients, BatchNormStats, RenormStats, read_stats, scale_and_shift
from nbnorm.batch_norm.training import batch_norm_forward

__all__ = [
    "BatchNormGradients", "BatchNormStats", "RenormStats", "batch_norm_backward", "batch_norm_forward",
    "batch_norm_infer", "read_stats", "scale_and_shift",
]  # fmt: skip
