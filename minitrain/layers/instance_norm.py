"""Instance normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example, Shape
from minitrain.layers._arguments import expect_several_pixels
from minitrain.layers._row_norm import RowNorm, Rows, rows_of_groups
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked


@dataclass(frozen=True)
class InstanceNorm(RowNorm):
    """y = (x - mean) / sqrt(var + eps) [times gamma, plus beta], over each channel of each sample of (N, C, *spatial).

    Ulyanov, Vedaldi & Lempitsky, "Instance normalization", 2016 (arXiv:1607.08022).

    Parameters
    ----------
    eps : float
        Added to the biased variance.
    affine : bool
        Whether it learns a gamma and a beta for each channel; not by default, as in PyTorch.
    bias : bool
        Whether beta is among them.

    Raises
    ------
    ValueError
        A channel of a sample has one value alone.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.InstanceNorm()(Input((8, 5, 5))).shape
    (8, 5, 5)
    """

    eps: float = 1e-5
    affine: bool = False
    bias: bool = True

    prefix: ClassVar[str] = "in"
    examples: ClassVar[list[Example]] = [
        Example((3, 4, 5, 5)),
        Example((2, 4, 7), affine=True),
        Example((1, 3, 2, 1), affine=True, bias=False),
        Example((3, 40, 9, 17), affine=True, eps=0.1),
    ]

    def __post_init__(self) -> None:
        set_checked(self, eps=expect_number("eps", self.eps, 0.0), affine=expect_boolean("affine", self.affine))
        set_checked(self, bias=expect_boolean("bias", self.bias))

    def rows(self, x: Shape) -> Rows:
        expect_several_pixels(self, x)
        return rows_of_groups(x, x[1])

    def first_values(self) -> dict[str, float]:
        return {} if not self.affine else {"gamma": 1.0, "beta": 0.0} if self.bias else {"gamma": 1.0}
