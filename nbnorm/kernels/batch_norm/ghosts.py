"""Ghost batch norm: groups of samples, each normalized by its own statistics. In NumPy::

    for each ghost: y[ghost] = batch_norm(x[ghost])

Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017 (arXiv:1705.08741), algorithm 1: the running
statistics move for each ghost in turn.
"""

from typing import Any

from nbnorm.jit.arrays import nothing
from nbnorm.kernels.batch_norm import dispatch

__all__ = ["backward", "count", "forward", "of_samples"]


def count(samples: int, size: int) -> int:
    """How many ghosts of `size` samples there are; the last one takes what is left over."""
    return max(samples // size, 1)


def of_samples(samples: int, size: int) -> list[slice]:
    """The samples of each ghost."""
    ghosts = count(samples, size)
    return [slice(g * size, (g + 1) * size if g < ghosts - 1 else samples) for g in range(ghosts)]


def forward(
    x: Any, residual: Any, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[float, float], relu: bool,
    size: int, stats: tuple[Any, Any], y: Any,
) -> None:  # fmt: skip
    """`batch_norm.forward` of each ghost of x (N, C, L); stats = (mean, inv_std), (ghosts, C)."""
    momentum, eps = rule
    for g, ghost in enumerate(of_samples(len(x), size)):
        added = residual[ghost] if residual.size else residual
        dispatch.forward(
            x[ghost], added, *affine, *running, momentum, eps, relu, stats[0][g], stats[1][g],
            y[ghost] if y.size else y,
        )  # fmt: skip


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], affine: tuple[Any, Any], relu: bool, residual_given: bool,
    size: int, gradients: tuple[Any, Any, Any, Any], sums: Any,
) -> None:  # fmt: skip
    """`batch_norm.backward` for `forward`; sums (2, C), of x's dtype, is working memory."""
    dx, dgamma, dbeta, dresidual = gradients
    none = nothing(x.dtype, 3)
    dgamma.fill(0)
    dbeta.fill(0)
    for g, ghost in enumerate(of_samples(len(x), size)):
        dispatch.backward(
            dy[ghost], x[ghost], y[ghost] if y.size else none, stats[0][g], stats[1][g], *affine, relu, residual_given,
            dx[ghost] if dx.size else none, sums[0], sums[1], dresidual[ghost] if dresidual.size else none,
        )  # fmt: skip
        dgamma += sums[0]
        dbeta += sums[1]
