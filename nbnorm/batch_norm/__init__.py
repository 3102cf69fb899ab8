"""Batch normalization as a user calls it: argument checks, output arrays, choice of kernel.

>>> import numpy as np, nbnorm
>>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
>>> y, stats = nbnorm.batch_norm_forward(x, eps=0.0)
>>> y
array([[-1., -1.],
       [ 1.,  1.]])
>>> stats.mean
array([ 2., 20.])
"""

from nbnorm.batch_norm.gradients import batch_norm_backward
from nbnorm.batch_norm.inference import batch_norm_infer
from nbnorm.batch_norm.parts import BatchNormGradients, BatchNormStats, RenormStats, read_stats, scale_and_shift
from nbnorm.batch_norm.training import batch_norm_forward

__all__ = [
    "BatchNormGradients", "BatchNormStats", "RenormStats", "batch_norm_backward", "batch_norm_forward",
    "batch_norm_infer", "read_stats", "scale_and_shift",
]  # fmt: skip
