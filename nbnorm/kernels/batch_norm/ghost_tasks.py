"""Ghosts side by side: a task normalizes a whole ghost, or some channels of one, by the tasks of the plain kernels."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.batch_norm.channels_first import backward as rows_backward
from nbnorm.kernels.batch_norm.channels_first import forward as rows_forward
from nbnorm.kernels.batch_norm.channels_first.cut import cut_of as rows_cut_of
from nbnorm.kernels.batch_norm.channels_last import backward as columns_backward
from nbnorm.kernels.batch_norm.channels_last import forward as columns_forward
from nbnorm.kernels.batch_norm.channels_last import loops
from nbnorm.kernels.batch_norm.channels_last.cut import cut_of as columns_cut_of
from nbnorm.kernels.runs import WHOLE, Gated, Gradients, Parameters
from nbnorm.simd.memory import borrowed, flat

__all__ = ["backward_columns", "backward_rows", "forward_columns", "forward_rows"]


# Tasks that share a working space run one after the other. There are as many spaces as tasks, but no more than one for
# so many elements, or `FEW`: they stay a small part of the arrays, however small the ghosts are. Fewer elements would
# give more threads something to do with small arrays. Not tuned: a space's work takes some 10 microseconds.
SHARE = 32 * 1024
FEW = 16


@device
def _spaces(tasks, size):
    """How many working spaces there are for so many tasks on arrays of so many elements."""
    return min(tasks, max(FEW, size // SHARE))


@device
def _end(ghost, ghosts, size, samples):
    """The sample up to which a ghost goes: the last one takes what is left over."""
    return (ghost + 1) * size if ghost < ghosts - 1 else samples


@device
def _part(values, first, end):
    """The samples of a ghost, of an array that may be empty."""
    return values[first:end] if values.size > 0 else values


@device
def _parameters(affine, moved, eps, ghost):
    """What the plain task is told: a momentum of 1 puts the ghost's statistics into `moved`."""
    return Parameters(affine[0], affine[1], moved[0][ghost], moved[1][ghost], 1.0, eps, 0.0, 0.0)


@device
def _division(x, stats, rows):
    """How many tasks there are, how many working spaces they share, and the slots of each."""
    cut = rows_cut_of(rows[0])
    tasks = stats[0].shape[0] * -(-x.shape[1] // cut.group)
    return tasks, _spaces(tasks, x.size), cut.slots


@device
def _forward_rows(task, ghosts, size, x, residual, parameters, rows, own, stats, y):
    affine, moved, eps, relu = parameters
    cut = rows_cut_of(rows[0])
    groups = -(-x.shape[1] // cut.group)
    ghost, group = task // groups, task % groups
    first, end = ghost * size, _end(ghost, ghosts, size, x.shape[0])
    cut = rows_cut_of(rows[0] if ghost < ghosts - 1 else rows[1])
    rows_forward.forward_task(
        WHOLE, group, cut, x[first:end], _part(residual, first, end), _parameters(affine, moved, eps, ghost), relu,
        own, (stats[0][ghost], stats[1][ghost]), _part(y, first, end),
    )  # fmt: skip


@kernel
def forward_rows(x, residual, affine, moved, eps, relu, size, rows, stats, y):
    """`channels_first.forward` of each ghost; rows: the cuts of one of `size` samples and of the last, of one chunk.

    moved = two float64 (ghosts, C) of zeros: overwritten with mean and unbiased variance.
    """
    ghosts, (tasks, spaces, share) = stats[0].shape[0], _division(x, stats, rows)
    room = np.empty(spaces * share)
    x, residual, y, slots = borrowed(x), borrowed(residual), borrowed(y), borrowed(room)
    affine, moved = (borrowed(affine[0]), borrowed(affine[1])), (borrowed(moved[0]), borrowed(moved[1]))
    stats, rows = (borrowed(stats[0]), borrowed(stats[1])), (borrowed(rows[0]), borrowed(rows[1]))
    for space in prange(spaces):
        own = slots[space * share : (space + 1) * share]
        for task in range(tasks * space // spaces, tasks * (space + 1) // spaces):
            _forward_rows(np.intp(task), ghosts, size, x, residual, (affine, moved, eps, relu), rows, own, stats, y)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use


@device
def _gated(gated, first, end):
    """The samples of a ghost."""
    dy, x, y, floor, by_output = gated
    return Gated(flat(dy[first:end]), flat(x[first:end]), flat(_part(y, first, end)), floor, by_output)


@device
def _gradients(gradients, ghost, first, end):
    dx, dgamma, dbeta, dresidual = gradients
    return Gradients(
        flat(_part(dx, first, end)), dgamma[ghost], dbeta[ghost], flat(_part(dresidual, first, end))
    )  # fmt: skip


@device
def _backward_rows(task, ghosts, size, gated, affine, rows, own, stats, gradients):
    samples, channels, length = gated.x.shape
    groups = -(-channels // rows_cut_of(rows[0]).group)
    ghost, group = task // groups, task % groups
    first, end = ghost * size, _end(ghost, ghosts, size, samples)
    cut = rows_cut_of(rows[0] if ghost < ghosts - 1 else rows[1])
    rows_backward.backward_task(
        WHOLE, group, cut, _gated(gated, first, end), (end - first, channels, length), affine,
        (stats[0][ghost], stats[1][ghost]), own, _gradients(gradients, ghost, first, end),
    )  # fmt: skip


@kernel
def backward_rows(dy, x, y, stats, affine, relu, by_output, sizes, rows, gradients):
    """`channels_first.backward` of each ghost; dgamma and dbeta are (ghosts, C); sizes = (size,)."""
    ghosts, size, (tasks, spaces, share) = stats[0].shape[0], sizes[0], _division(x, stats, rows)
    room = np.empty(spaces * share)
    slots, stats = borrowed(room), (borrowed(stats[0]), borrowed(stats[1]))
    affine, rows = (borrowed(affine[0]), borrowed(affine[1])), (borrowed(rows[0]), borrowed(rows[1]))
    floor = x.dtype.type(0.0 if relu else np.nan)
    gated = Gated(borrowed(dy), borrowed(x), borrowed(y), floor, by_output)
    written = borrowed(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), borrowed(gradients[3])
    for space in prange(spaces):
        own = slots[space * share : (space + 1) * share]
        for task in range(tasks * space // spaces, tasks * (space + 1) // spaces):
            _backward_rows(np.intp(task), ghosts, size, gated, affine, rows, own, stats, written)
    room[0] = 0.0  # a use of it after what was borrowed from it: it is freed after its last use


@device
def _working(working, space, slots, channels):
    """The sums and the factors of a working space."""
    size = loops.FACTORS * channels
    return working[0][space * slots : (space + 1) * slots], working[1][space * size : (space + 1) * size]


@device
def _forward_columns(ghost, ghosts, size, x, residual, parameters, rows, working, stats, y):
    (sums, factors), (affine, moved, eps, relu) = working, parameters
    channels = x.shape[1]
    first, end = ghost * size, _end(ghost, ghosts, size, x.shape[0])
    cut = columns_cut_of(rows[0] if ghost < ghosts - 1 else rows[1])
    own = x[first:end]
    loops.sampled_shifts(flat(own), end - first, channels, factors)
    columns_forward.forward_task(
        WHOLE, 0, cut, own, _part(residual, first, end), _parameters(affine, moved, eps, ghost), relu, (sums, factors),
        (stats[0][ghost], stats[1][ghost]), _part(y, first, end),
    )  # fmt: skip


@kernel
def forward_columns(x, residual, affine, moved, eps, relu, size, rows, stats, y):
    """`channels_last.forward` of each ghost: as `forward_rows`; the cuts have one task."""
    ghosts, channels = stats[0].shape
    spaces, slots = _spaces(ghosts, x.size), columns_cut_of(rows[0]).slots
    room, kept = np.empty(spaces * slots), np.empty(spaces * loops.FACTORS * channels, x.dtype)
    x, residual, y, working = borrowed(x), borrowed(residual), borrowed(y), (borrowed(room), borrowed(kept))
    affine, moved = (borrowed(affine[0]), borrowed(affine[1])), (borrowed(moved[0]), borrowed(moved[1]))
    stats, rows = (borrowed(stats[0]), borrowed(stats[1])), (borrowed(rows[0]), borrowed(rows[1]))
    for space in prange(spaces):
        own = _working(working, space, slots, channels)
        for ghost in range(ghosts * space // spaces, ghosts * (space + 1) // spaces):
            _forward_columns(np.intp(ghost), ghosts, size, x, residual, (affine, moved, eps, relu), rows, own, stats, y)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use


@device
def _backward_columns(ghost, ghosts, size, gated, affine, rows, working, stats, gradients):
    samples, channels, _ = gated.x.shape
    first, end = ghost * size, _end(ghost, ghosts, size, samples)
    cut = columns_cut_of(rows[0] if ghost < ghosts - 1 else rows[1])
    (sums, factors), own = working, (stats[0][ghost], stats[1][ghost])
    loops.store_factors(factors, own[0], own[1], affine, 0, channels)
    columns_backward.backward_task(
        WHOLE, 0, cut, _gated(gated, first, end), (end - first, channels, 1), own, (sums, factors),
        _gradients(gradients, ghost, first, end),
    )  # fmt: skip


@kernel
def backward_columns(dy, x, y, stats, affine, relu, by_output, sizes, rows, gradients):
    """`channels_last.backward` of each ghost: as `backward_rows`; the cuts have one task."""
    ghosts, channels = stats[0].shape
    spaces, slots = _spaces(ghosts, x.size), columns_cut_of(rows[0]).slots
    room, kept = np.empty(spaces * slots), np.empty(spaces * loops.FACTORS * channels, x.dtype)
    working, stats = (borrowed(room), borrowed(kept)), (borrowed(stats[0]), borrowed(stats[1]))
    affine, rows = (borrowed(affine[0]), borrowed(affine[1])), (borrowed(rows[0]), borrowed(rows[1]))
    floor = x.dtype.type(0.0 if relu else np.nan)
    gated = Gated(borrowed(dy), borrowed(x), borrowed(y), floor, by_output)
    written = borrowed(gradients[0]), borrowed(gradients[1]), borrowed(gradients[2]), borrowed(gradients[3])
    for space in prange(spaces):
        own = _working(working, space, slots, channels)
        for ghost in range(ghosts * space // spaces, ghosts * (space + 1) // spaces):
            _backward_columns(np.intp(ghost), ghosts, sizes[0], gated, affine, rows, own, stats, written)
    room[0] = kept[0] = 0.0  # a use of them after what was borrowed from them: they are freed after their last use
