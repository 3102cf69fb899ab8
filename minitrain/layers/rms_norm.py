"""Root mean square normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minitrain.layer import Example, Shape
from minitrain.layers._arguments import axes_within, checked_axes
from minitrain.layers._row_norm import RowNorm, Rows, rows_of_axes
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked


@dataclass(frozen=True)
class RMSNorm(RowNorm):
    """y = gamma x / sqrt(mean(x^2) + eps), with the mean over some axes of each sample.

    Zhang & Sennrich, "Root mean square layer normalization", 2019 (arXiv:1910.07467).

    Parameters
    ----------
    axes : int or tuple of int
        As those of `LayerNorm`.
    eps : float, optional
        By default the distance from 1 to the next number of the model's dtype, as in PyTorch.
    affine : bool
        Whether it learns gamma.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.RMSNorm()(Input((10, 64))).shape
    (10, 64)
    """

    axes: int | tuple[int, ...] = (-1,)
    eps: float | None = None
    affine: bool = True

    prefix: ClassVar[str] = "rms"
    centered: ClassVar[bool] = False
    examples: ClassVar[list[Example]] = [
        Example((4, 7)),
        Example((3, 5, 33), eps=1e-3),
        Example((2, 5, 3, 4), axes=(1,)),
        Example((2, 3, 4, 5), axes=(-2, -1), affine=False),
        Example((9, 40, 65)),
    ]

    def __post_init__(self) -> None:
        set_checked(self, axes=checked_axes(self.axes), affine=expect_boolean("affine", self.affine))
        if self.eps is not None:
            set_checked(self, eps=expect_number("eps", self.eps, 0.0))

    def epsilon(self, dtype: np.dtype) -> float:
        return float(np.finfo(dtype).eps if self.eps is None else self.eps)

    def rows(self, x: Shape) -> Rows:
        return rows_of_axes(x, axes_within(self, self.axes, x))

    def first_values(self) -> dict[str, float]:
        return {"gamma": 1.0} if self.affine else {}
