"""Batch norm on C-contiguous (N, C, L) arrays: arrays in, arrays out, no checks. See `dispatch`."""

from nbnorm.kernels.batch_norm.dispatch import backward, forward, frozen_backward, infer, statistics

__all__ = ["backward", "forward", "frozen_backward", "infer", "statistics"]
