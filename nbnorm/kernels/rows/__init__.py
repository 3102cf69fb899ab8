"""Norms over rows of C-contiguous arrays: arrays in, arrays out, no checks. See `dispatch`."""

from nbnorm.kernels.rows.dispatch import backward, backward_room, forward

__all__ = ["backward", "backward_room", "forward"]
