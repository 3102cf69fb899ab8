"""Norms whose scale and shift are those of an element of the row: layer norm, RMS norm. See `rows.dispatch`."""

from nbnorm.kernels.rows.elements import backward, forward

__all__ = ["backward", "forward"]
