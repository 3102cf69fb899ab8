"""Which kernel for which shape, as the plain norm's `dispatch` does it: arrays in, arrays out, no checks."""

from types import ModuleType
from typing import Any

from nbnorm.jit.arrays import Array
from nbnorm.kernels.batch_norm import channels_first, channels_last
from nbnorm.kernels.batch_norm.masked import columns, rows
from nbnorm.kernels.batch_norm.masked.valid import Valid

__all__ = ["backward", "clear", "forward"]


def forward(
    x: Any, residual: Any, valid: Valid, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[float, float],
    relu: bool, stats: tuple[Any, Any], y: Any,
) -> None:  # fmt: skip
    """`batch_norm.forward` of two or more valid values of each channel: y is 0 elsewhere.

    affine = (gamma, beta), running = (running_mean, running_var), rule = (momentum, eps), stats = (mean, inv_std).
    """
    room, row = _room(x, valid, 1)
    room.forward.for_work(x.size)(x, residual, tuple(valid), affine, running, rule, relu, row, stats, y)


def backward(
    dy: Any, x: Any, y: Any, valid: Valid, stats: tuple[Any, Any], affine: tuple[Any, Any], relu: bool,
    residual_given: bool, gradients: tuple[Any, Any, Any, Any],
) -> None:  # fmt: skip
    """`batch_norm.backward` for `forward`; gradients = (dx, dgamma, dbeta, dresidual)."""
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    room, row = _room(x, valid, 3 if residual_given else 2)
    room.backward.for_work(x.size)(dy, x, y, tuple(valid), stats, affine, relu, residual_given, row, gradients)


def _room(x: Any, valid: Valid, arrays: int) -> tuple[ModuleType, Array]:
    images, channels, length = x.shape
    if length == 1:
        return columns, channels_last.cut.cut(valid.number, channels, x.itemsize)
    return rows, channels_first.cut.cut(images, channels, length, x.itemsize, arrays)


def clear(values: Any, valid: Valid) -> None:
    """Overwrite what is not valid of values (N, C, L) with zeros."""
    if values.size:
        rows.clear.for_work(values.size)(values, tuple(valid))
