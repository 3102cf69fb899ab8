"""Filter response normalization with its thresholded linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minitrain.layer import Example, Shape
from minitrain.layers._arguments import expect_several_pixels
from minitrain.layers._row_norm import RowNorm, Rows, rows_of_groups
from nbnorm.jit.checks import expect_number, set_checked


@dataclass(frozen=True)
class FilterResponseNorm(RowNorm):
    """y = max(gamma x / sqrt(mean(x^2) + eps) + beta, tau), over each channel of each sample of (N, C, *spatial).

    Singh & Krishnan, "Filter response normalization layer: eliminating batch dependence in the training of deep neural
    networks", 2019 (arXiv:1911.09737). The threshold tau is learned, as gamma and beta are, and takes the place of a
    ReLU behind it.

    Parameters
    ----------
    eps : float
        Added to the mean of squares.

    Raises
    ------
    ValueError
        A channel of a sample has one value alone: the output would be its sign.

    Examples
    --------
    >>> from minitrain import Input, layers
    >>> layers.FilterResponseNorm()(Input((8, 5, 5))).shape
    (8, 5, 5)
    """

    eps: float = 1e-6

    prefix: ClassVar[str] = "frn"
    centered: ClassVar[bool] = False
    examples: ClassVar[list[Example]] = [
        Example((3, 4, 5, 5)),
        Example((2, 4, 7), eps=1e-2),
        Example((1, 3, 2, 1)),
        Example((3, 40, 9, 17)),
    ]

    def __post_init__(self) -> None:
        set_checked(self, eps=expect_number("eps", self.eps, 0.0))

    def rows(self, x: Shape) -> Rows:
        expect_several_pixels(self, x)
        return rows_of_groups(x, x[1])

    def first_values(self) -> dict[str, float]:
        return {"gamma": 1.0, "beta": 0.0, "tau": 0.0}
