"""Batch renormalization: x_hat = (x - mean) inv_std r + d, with r and d constants of the backward pass. In NumPy::

    std, running_std = np.sqrt(var + eps), np.sqrt(running_var + eps)
    r = np.clip(std / running_std, 1 / rmax, rmax)
    d = np.clip((mean - running_mean) / running_std, -dmax, dmax)
    y = batch_norm(x, gamma * r, beta + gamma * d)

so that it is batch norm with another scale and shift: dbeta = sum g, dgamma = r sum(g x_hat_of_batch_norm) + d sum g.
Ioffe, "Batch Renormalization", 2017 (arXiv:1702.03275).
"""

from typing import Any

import numpy as np

from nbnorm.kernels.batch_norm import dispatch

__all__ = ["backward", "corrected", "corrections", "forward"]


def corrections(stats: tuple[Any, Any], running: tuple[Any, Any], eps: float, limits: tuple[float, float]) -> Any:
    """Return r and d, float64 (C,)."""
    mean, inv_std = stats
    rmax, dmax = limits
    inverse = 1.0 / np.sqrt(running[1].astype(np.float64) + eps)
    return np.clip(inverse / inv_std, 1.0 / rmax, rmax), np.clip((mean - running[0]) * inverse, -dmax, dmax)


def corrected(affine: tuple[Any, Any], r: Any, d: Any) -> tuple[Any, Any]:
    """Return gamma and beta of the batch norm that does the same."""
    gamma, beta = affine
    return (gamma * r).astype(gamma.dtype), (beta + gamma * d).astype(beta.dtype)


def forward(
    x: Any, residual: Any, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[float, float],
    limits: tuple[float, float], relu: bool, stats: tuple[Any, Any], y: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """`batch_norm.forward` with renormalization by running statistics that are then moved; returns r and d."""
    before = running[0].copy(), running[1].copy()
    dispatch.forward(x, residual, *affine, *running, *rule, relu, *stats, y, limits)
    return corrections(stats, before, rule[1], limits)


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], affine: tuple[Any, Any], corrections: tuple[Any, Any], relu: bool,
    residual_given: bool, gradients: tuple[Any, Any, Any, Any],
) -> None:  # fmt: skip
    """`batch_norm.backward` for `forward`; corrections = (r, d)."""
    r, d = corrections
    dx, dgamma, dbeta, dresidual = gradients
    dispatch.backward(
        dy, x, y, *stats, *corrected(affine, r, d), relu, residual_given, dx, dgamma, dbeta, dresidual
    )  # fmt: skip
    dgamma[...] = r * dgamma + d * dbeta
