"""Batch renormalization: x_hat = (x - mean) inv_std r + d, with r and d constants of the backward pass. In NumPy::

    std, running_std = np.sqrt(var + eps), np.sqrt(running_var + eps)
    r = np.clip(std / running_std, 1 / rmax, rmax)
    d = np.clip((mean - running_mean) / running_std, -dmax, dmax)
    y = batch_norm(x, gamma * r, beta + gamma * d)

so that it is batch norm with another scale and shift: dbeta = sum g, dgamma = r sum(g x_hat_of_batch_norm) + d sum g.
Ioffe, "Batch Renormalization", 2017 (arXiv:1702.03275).
"""

from typing import Any

from nbnorm.kernels.batch_norm import channels_first, channels_last, dispatch, renorm_tasks

__all__ = ["backward", "forward"]


def _corrected(affine: tuple[Any, Any], r: Any, d: Any) -> tuple[Any, Any]:
    """Return gamma and beta of the batch norm that does the same."""
    gamma, beta = affine
    return (gamma * r).astype(gamma.dtype), (beta + gamma * d).astype(beta.dtype)


def forward(
    x: Any, residual: Any, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[float, float],
    limits: tuple[float, float], relu: bool, stats: tuple[Any, Any, Any, Any], y: Any,
) -> None:  # fmt: skip
    """`batch_norm.forward` with renormalization by running statistics, which are then moved.

    Written: stats = (mean, inv_std, r, d), and y.
    """
    if x.size == 0:
        return
    images, channels, length = x.shape
    numbers = *rule, *limits
    if length == 1:
        row = channels_last.cut.cut(images, channels, x.itemsize)
        run = renorm_tasks.forward_columns
    else:
        row = channels_first.cut.cut(images, channels, length, x.itemsize, 1)
        run = renorm_tasks.forward_rows
    run.for_work(x.size)(x, residual, affine, running, numbers, relu, row, stats, y)


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], affine: tuple[Any, Any], corrections: tuple[Any, Any], relu: bool,
    residual_given: bool, gradients: tuple[Any, Any, Any, Any],
) -> None:  # fmt: skip
    """`batch_norm.backward` for `forward`; corrections = (r, d)."""
    r, d = corrections
    dx, dgamma, dbeta, dresidual = gradients
    dispatch.backward(
        dy, x, y, *stats, *_corrected(affine, r, d), relu, residual_given, dx, dgamma, dbeta, dresidual
    )  # fmt: skip
    dgamma[...] = r * dgamma + d * dbeta
