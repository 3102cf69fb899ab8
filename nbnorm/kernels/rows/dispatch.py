"""Norms of rows: layer, RMS, group, instance, filter response norm and weight standardization.

    x_hat = (x - mean) / sqrt(var + eps), y = max(gamma x_hat + beta + residual, floor)
    g = dy where y is above the floor, else 0
    dx = (gamma g - mean(gamma g) - x_hat mean(gamma g x_hat)) / sqrt(var + eps)
    dgamma = sum g x_hat, dbeta = sum g, dtau = sum dy - g, dresidual = g

with mean, biased var and the means of dx over each row, and the sums over what shares a gamma. RMS norm and filter
response norm are not centered: there mean is 0, var is mean(x^2), and dx has no mean(gamma g). In NumPy, over the rows
of a matrix::

    def forward(x, gamma, beta, eps):
        mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        x_hat = (x - mean) / np.sqrt(var + eps)
        return gamma * x_hat + beta, mean, var

    def backward(g, x_hat, var, gamma, eps):
        h = gamma * g
        dx = h - h.mean(1, keepdims=True) - x_hat * (h * x_hat).mean(1, keepdims=True)
        return dx / np.sqrt(var + eps), (g * x_hat).sum(0), g.sum(0)

The kernels go further from it step by step:

- A row is summed, normalized and left at once, while it is in the nearest cache; tasks are ranges of rows.
- Mean and variance come from deviations from a shift near the mean (`moments`): squares of large means do not cancel.
- Sums of a block in the type of x, of blocks in float64: as fast as the one and as exact as the other.
- Backward goes over blocks of rows (`elements`): the gradients of parameters are summed down them in registers. Tasks
  have sums of their own, which are added in order.
- Where scale and shift are those of a channel (`channels`), the sums of channels are those of their parameters, too.

Arrays are (rows, length, 1) where scale and shift are those of an element of the row, (rows, channels of a row, length)
where they are those of a channel. `groups` rows are a sample: row k has the parameters of row k % groups. An array that
is not wanted or not given is empty. All results are overwritten. The bits of a result do not depend on the number of
threads, nor on whether the serial form was chosen.
"""

from typing import Any

from nbnorm.kernels.rows import channels, elements
from nbnorm.kernels.rows.cut import BLOCK_ROWS, TASKS, TASKS_WITH_SUMS, Rows, cut, rows_of_task

__all__ = ["backward", "backward_room", "forward"]


def forward(
    x: Any, residual: Any, parameters: tuple[Any, Any, Any], groups: int, eps: float, centered: bool, relu: bool,
    mean: Any, inv_std: Any, y: Any,
) -> None:  # fmt: skip
    """Write mean, inv_std and y; parameters = (gamma, beta, tau). y may be x or residual."""
    size = x.size
    if size == 0:
        return
    number, across, length = x.shape
    rows = Rows(number, across * length, groups, x.itemsize)
    gamma, beta, tau = parameters
    if by_elements(length, tau.size > 0):
        row = cut(rows, groups, TASKS, False, centered, relu, False)
        elements.forward.forward.for_work(size)(x, residual, gamma, beta, eps, row, mean, inv_std, y)
    else:
        row = cut(rows, 1, TASKS, False, centered, relu, False)
        channels.forward.forward.for_work(size)(x, residual, gamma, beta, tau, eps, row, mean, inv_std, y)


def by_elements(length: int, with_tau: bool) -> bool:
    """Return whether scale and shift are those of an element of the row."""
    return length == 1 and not with_tau


def backward_room(view: tuple[int, int, int], groups: int, itemsize: int, with_tau: bool) -> int:
    """Return how many float64 `backward` wants room for, for an x of this shape and these bytes an element."""
    number, across, length = view
    if 0 in view:
        return 0
    if by_elements(length, with_tau):
        rows = Rows(number, across, groups, itemsize)
        return elements.backward.room_of(rows, rows_of_task(rows, groups * BLOCK_ROWS, TASKS_WITH_SUMS))
    return channels.backward.room_of(number, across)


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], parameters: tuple[Any, Any, Any], groups: int, centered: bool,
    relu: bool, residual_given: bool, room: Any, gradients: tuple[Any, Any, Any, Any, Any],
) -> None:  # fmt: skip
    """Write gradients = (dx, dgamma, dbeta, dtau, dresidual); stats = (mean, inv_std), parameters = (gamma, beta, tau).

    `room` is at least `backward_room` float64 of working memory. dx may be dy or x, dresidual may be dy.
    """
    dx, dgamma, dbeta, dtau, dresidual = gradients
    size = x.size
    if size == 0:
        for part in (dgamma, dbeta, dtau):
            part.fill(0)
        return
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    number, across, length = x.shape
    rows = Rows(number, across * length, groups, x.itemsize)
    gamma, beta, tau = parameters
    if by_elements(length, tau.size > 0):
        row = cut(rows, groups * BLOCK_ROWS, TASKS_WITH_SUMS, True, centered, relu, residual_given)
        wanted = dx, dgamma, dbeta, dresidual
        elements.backward.backward.for_work(size)(dy, x, y, stats, gamma, beta, row, room, wanted)
    else:
        row = cut(rows, 1, TASKS, True, centered, relu, residual_given)
        channels.backward.backward.for_work(size)(dy, x, y, stats, parameters, row, room, gradients)
