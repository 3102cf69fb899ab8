"""Batch normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example
from minitrain.layers._normalization import Normalization


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Batch normalization of each channel of x (N, C, *spatial), any number of spatial axes.

    y = gamma (x - mean) / sqrt(var + eps) + beta, with the batch's mean and biased variance in training, and the
    running ones in inference. The running variance is unbiased, as PyTorch's is.
    Ioffe & Szegedy, "Batch normalization", 2015 (arXiv:1502.03167).

    Parameters
    ----------
    momentum : float or None
        Weight of the NEW batch in the running statistics (PyTorch's meaning; Keras's is 1 - this), in [0, 1]. None:
        the mean over all batches so far.
    eps : float
        Added to the variance.
    gamma_init, beta_init : Initializer

    Raises
    ------
    ValueError
        In training, when there are fewer than two values per channel.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.BatchNorm()(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    examples: ClassVar[list[Example]] = [
        Example((4, 3, 5, 5)),
        Example((2, 1, 1, 7)),
        Example((8, 4)),
        Example((4, 3, 5), momentum=None),
        Example((1, 2, 3, 2, 2), eps=0.1, momentum=0.5),
        Example((3, 40, 9, 17)),
    ]
