"""Norms whose scale and shift are those of a channel: group, instance, filter response norm. See `rows.dispatch`."""

from nbnorm.kernels.rows.channels import backward, forward

__all__ = ["backward", "forward"]
