"""Batch norm of the values that a mask says are valid: (N, C, L) arrays, one mask (N, L) for all channels.

    mean, var = x[:, :, mask].mean, .var; y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual])

where the mask is true, and 0 elsewhere: what x, dy and the residual hold there changes nothing, NaN neither. In NumPy::

    packed = np.moveaxis(x, 1, -1)[mask]  # (count, C): what the plain norm would be given

Beside the plain kernels' steps: a value that is not valid is made 0 by its byte of the mask before it is added, and
the valid rows of columns are visited by their numbers. Normalizing goes over everything: that is what memory takes.
"""

from nbnorm.kernels.batch_norm.masked.dispatch import backward, clear, forward
from nbnorm.kernels.batch_norm.masked.valid import Valid, valid_by_lengths, valid_by_mask

__all__ = ["Valid", "backward", "clear", "forward", "valid_by_lengths", "valid_by_mask"]
