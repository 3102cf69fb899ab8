"""Batch norm where the values of a channel lie in rows: (N, C, L) with L > 1."""

from nbnorm.kernels.batch_norm.channels_first import backward, cut, forward, frozen

__all__ = ["backward", "cut", "forward", "frozen"]
