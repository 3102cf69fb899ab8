"""Batch normalization on C-contiguous (N, C, L) arrays: arrays in, arrays out, no checks.

These choose among the kernels by shape: rows of values (L > 1) or columns of channels (L = 1), parallel or serial.
gamma, beta and running_* have x's dtype, mean and inv_std are float64. All results are overwritten. The bits of a
result do not depend on the number of threads, nor on whether the serial form was chosen.
"""

from typing import Any

import numpy as np

from nbnorm.kernels.batch_norm import inference
from nbnorm.kernels.batch_norm.channels_first import backward as rows_backward
from nbnorm.kernels.batch_norm.channels_first import cut as rows
from nbnorm.kernels.batch_norm.channels_first import forward as rows_forward
from nbnorm.kernels.batch_norm.channels_last import backward as columns_backward
from nbnorm.kernels.batch_norm.channels_last import forward as columns_forward
from nbnorm.kernels.batch_norm.channels_last import loops


def forward(
    x: Any, residual: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, momentum: float, eps: float,
    relu: bool, mean: Any, inv_std: Any, y: Any,
) -> None:  # fmt: skip
    """y = [relu](gamma (x - mean) / sqrt(var + eps) + beta [+ residual]); moves the running statistics.

    An empty (0, 0, 0) residual is none; empty running statistics are not moved. y may be x or residual.
    """
    size = x.size
    if size == 0:
        return
    images, channels, length = x.shape
    if length == 1:
        plan, slots = loops.plan(images, channels, x.itemsize)
        columns_forward.forward.for_work(size)(
            x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, np.empty(slots),
            np.empty(loops.FACTORS * channels, x.dtype), mean, inv_std, y,
        )  # fmt: skip
        return
    plan, slots = rows.plan(images, channels, length, x.itemsize, 1)
    rows_forward.forward.for_work(size)(
        x, residual, gamma, beta, running_mean, running_var, momentum, eps, relu, plan, np.empty(slots),
        mean, inv_std, y,
    )  # fmt: skip


def statistics(
    x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, momentum: float, eps: float, mean: Any,
    inv_std: Any,
) -> None:  # fmt: skip
    """Write mean and inv_std of `forward` and move the running statistics: all of it but y."""
    none = np.empty((0, 0, 0), x.dtype)
    forward(x, none, gamma, beta, running_mean, running_var, momentum, eps, False, mean, inv_std, none)


def infer(
    x: Any, residual: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, eps: float, relu: bool, y: Any
) -> None:
    """y = [relu](gamma (x - running_mean) / sqrt(running_var + eps) + beta [+ residual])"""
    if x.size == 0:
        return
    factors = np.empty(loops.FACTORS * x.shape[1], x.dtype)
    inference.infer.for_work(x.size)(x, residual, gamma, beta, running_mean, running_var, eps, relu, factors, y)


def backward(
    dy: Any, x: Any, y: Any, mean: Any, inv_std: Any, gamma: Any, beta: Any, relu: bool, residual_given: bool,
    dx: Any, dgamma: Any, dbeta: Any, dresidual: Any,
) -> None:  # fmt: skip
    """Gradients of `forward`; see `rows_backward.backward` for the formulas.

    What the ReLU cut off is computed anew from x, or taken from y where a residual was added (y may be empty
    otherwise). An empty (0, 0, 0) dx or dresidual is not wanted. dx may be dy or x, dresidual may be dy.
    """
    size = x.size
    if size == 0:
        return
    images, channels, length = x.shape
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    if length == 1:
        plan, slots = loops.plan(images, channels, x.itemsize)
        columns_backward.backward.for_work(size)(
            dy, x, y, mean, inv_std, gamma, beta, relu, residual_given, plan, np.empty(slots),
            np.empty(loops.FACTORS * channels, x.dtype), dx, dgamma, dbeta, dresidual,
        )  # fmt: skip
        return
    plan, slots = rows.plan(images, channels, length, x.itemsize, 3 if residual_given else 2)
    rows_backward.backward.for_work(size)(
        dy, x, y, mean, inv_std, gamma, beta, relu, residual_given, plan, np.empty(slots), dx, dgamma, dbeta, dresidual
    )
