"""Layer normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example, Shape
from minitrain.layers._arguments import axes_within, checked_axes
from minitrain.layers._row_norm import RowNorm, Rows, rows_of_axes
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked


@dataclass(frozen=True)
class LayerNorm(RowNorm):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with mean and biased variance over some axes of each sample.

    Ba, Kiros & Hinton, "Layer normalization", 2016 (arXiv:1607.06450). Training and inference are the same, and no
    sample sees another one.

    Parameters
    ----------
    axes : int or tuple of int
        What is normalized together, and has a gamma and a beta for each element: (-1,) is PyTorch's LayerNorm of the
        last axis, (-3, -2, -1) that of whole images, (1,) the channels of (N, C, H, W) at each pixel. Never 0, which is
        the batch.
    eps : float
        Added to the variance.
    affine, bias : bool
        Whether it learns gamma, and beta too.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.LayerNorm()(Input((10, 64))).shape
    (10, 64)
    """

    axes: int | tuple[int, ...] = (-1,)
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    prefix: ClassVar[str] = "ln"
    examples: ClassVar[list[Example]] = [
        Example((4, 7)),
        Example((3, 5, 33)),
        Example((2, 3, 4, 5), axes=(1, 2, 3)),
        Example((2, 5, 3, 4), axes=(1,)),
        Example((2, 3, 4, 5), axes=(1, 3), bias=False),
        Example((4, 70), affine=False, eps=0.1),
        Example((3, 1)),
        Example((9, 40, 65), axes=-1),
    ]

    def __post_init__(self) -> None:
        set_checked(self, axes=checked_axes(self.axes), eps=expect_number("eps", self.eps, 0.0))
        set_checked(self, affine=expect_boolean("affine", self.affine), bias=expect_boolean("bias", self.bias))

    def rows(self, x: Shape) -> Rows:
        return rows_of_axes(x, axes_within(self, self.axes, x))

    def first_values(self) -> dict[str, float]:
        return {} if not self.affine else {"gamma": 1.0, "beta": 0.0} if self.bias else {"gamma": 1.0}
