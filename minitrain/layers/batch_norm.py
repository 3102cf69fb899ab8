"""Batch normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example, Spec
from minitrain.layers._normalization import Normalization
from minitrain.layers._renorm import Renorm


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Batch normalization of each channel of x (N, C, *spatial), any number of spatial axes.

    y = gamma (x - mean) / sqrt(var + eps) + beta, with the batch's mean and biased variance in training, and the
    running ones in inference. The running variance is unbiased, as PyTorch's is.
    Ioffe & Szegedy, "Batch normalization", 2015 (arXiv:1502.03167).

    Called on x and a mask, (N, *spatial) of bool, or on x (N, C, T) and lengths, (N,) of integers, it normalizes the
    valid values (of lengths: the first ones of each sample) by their own statistics. The output and the gradient are 0
    elsewhere, in inference too, and what x holds there changes nothing.

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
    ghost_size : int, optional
        In training, samples that are normalized together; the last ghost takes what is left over (Hoffer et al., "Train
        longer, generalize better", 2017). The running statistics move for each ghost in turn.
    renorm : Renorm, optional
        In training, batch renormalization with these limits (Ioffe, "Batch renormalization", 2017): for small batches,
        and for batches whose samples are alike.
    threshold : float, optional
        Running statistics move by that part of a batch's difference alone that is beyond so many standard errors, and
        by a tenth of the momentum for the rest: 3 keeps the noise of small batches out, and follows what is new at
        once. The state `moved_share` is the share of channels that moved by more with the last batch.
    gamma_init, beta_init : Initializer

    Raises
    ------
    ValueError
        Both momentum and period; more than one of ghost_size, renorm and threshold. In training, and in inference
        without running statistics, when there are fewer than two (valid) values per channel.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.BatchNorm()(Input((8, 4, 4))).shape
    (8, 4, 4)
    """

    takes_mask: ClassVar[bool] = True
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
        Example((4, 3, 5, 5), Spec((4, 5, 5), "bool")),
        Example((5, 3, 9), Spec((5,), "int64"), high=10, threshold=2.0),
        Example((9, 5), Spec((9,), "bool"), track_running_stats=False),
        Example((3, 20, 40), Spec((3, 40), "bool"), affine=False),
        Example((7, 3, 4), ghost_size=2),
        Example((8, 4), ghost_size=4, momentum=None),
        Example((6, 5, 3), renorm=Renorm(1.0, 0.0)),
        Example((8, 4), threshold=3.0),
    ]
