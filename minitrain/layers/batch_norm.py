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
    affine : bool
        Whether it learns gamma and beta. False: gamma = 1, beta = 0.
    bias : bool
        Whether it learns beta, too.
    track_running_stats : bool
        False: no running statistics; inference normalizes by those of its batch, as training does.
    period : float, optional
        The momentum in another form, 2 / (period + 1): running statistics remember about so many batches. Give one of
        the two.
    debias : bool
        Whether the running statistics are weighted means of the batches alone, without what they start from: the t-th
        batch has the weight momentum / (1 - (1 - momentum)^t). Better inference after few batches.
    gamma_init, beta_init : Initializer

    Raises
    ------
    ValueError
        Both momentum and period. In training, and in inference without running statistics, when there are fewer than two values per channel.

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
        Example((4, 3, 5), affine=False),
        Example((8, 4), bias=False, debias=True),
        Example((4, 3, 2, 2), track_running_stats=False),
        Example((8, 4), affine=False, track_running_stats=False, period=9),
        Example((1, 2, 3, 2, 2), eps=0.1, momentum=0.5),
        Example((3, 40, 9, 17)),
    ]
