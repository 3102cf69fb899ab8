"""Norms over rows of C-contiguous arrays: arrays in, arrays out, no checks. See `dispatch`."""

from nbnorm.kernels.rows.dispatch import backward, forward

__all__ = ["backward", "forward"]
