"""Batch norm where each channel is a column: (M, C) arrays, a sample of all channels after the other."""

from nbnorm.kernels.batch_norm.channels_last import backward, cut, forward, frozen

__all__ = ["backward", "cut", "forward", "frozen"]
