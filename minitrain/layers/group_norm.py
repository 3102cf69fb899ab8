"""Group normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example, Shape, describe
from minitrain.layers._row_norm import RowNorm, Rows, rows_of_groups
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_number, set_checked


@dataclass(frozen=True)
class GroupNorm(RowNorm):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, over groups of channels of each sample of x (N, C, *spatial).

    Wu & He, "Group normalization", 2018 (arXiv:1803.08494). Each channel has a gamma and a beta: one group is not
    `LayerNorm`, which has these for each element.

    Parameters
    ----------
    groups : int
        A divisor of the number of channels.
    eps : float
        Added to the biased variance.
    affine, bias : bool
        Whether it learns gamma, and beta too.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.GroupNorm(4)(Input((8, 5, 5))).shape
    (8, 5, 5)
    """

    groups: int
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    prefix: ClassVar[str] = "gn"
    examples: ClassVar[list[Example]] = [
        Example((3, 6, 5, 5), groups=3),
        Example((2, 4, 7), groups=1),
        Example((4, 6), groups=2, bias=False),
        Example((2, 4, 3, 3), groups=4, affine=False),
        Example((3, 40, 9, 17), groups=8, eps=0.1),
    ]

    def __post_init__(self) -> None:
        set_checked(self, groups=expect_integer("groups", self.groups), eps=expect_number("eps", self.eps, 0.0))
        set_checked(self, affine=expect_boolean("affine", self.affine), bias=expect_boolean("bias", self.bias))

    def rows(self, x: Shape) -> Rows:
        if len(x) < 2:
            raise ValueError(f"GroupNorm: expected an input of shape (N, C, ...), got {describe(x)}")
        if x[1] % self.groups:
            raise ValueError(f"groups: expected a divisor of the {x[1]} channels of {describe(x)}, got {self.groups}")
        return rows_of_groups(x, self.groups)

    def first_values(self) -> dict[str, float]:
        return {} if not self.affine else {"gamma": 1.0, "beta": 0.0} if self.bias else {"gamma": 1.0}
