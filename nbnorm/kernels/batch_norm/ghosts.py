"""Ghost batch norm: groups of samples, each normalized by its own statistics. In NumPy::

    for each ghost: y[ghost] = batch_norm(x[ghost])

Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017 (arXiv:1705.08741), algorithm 1: the running
statistics move for each ghost in turn.

Ghosts are samples side by side in memory, so that the plain kernels do for each what they do for a batch: one ghost
after the other where they are large and few, all ghosts at once (`ghost_tasks`) where they are many.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array, nothing
from nbnorm.kernels.batch_norm import channels_first, channels_last, dispatch, ghost_tasks
from nbnorm.kernels.runs import KEPT
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["backward", "count", "forward", "of_samples"]

# Tasks from which on all ghosts are done at once: with fewer, threads would idle that can share a ghost. Not
# tuned: as many as there are whole channels in a plain cut.
SIDE_BY_SIDE = 16
# Elements of a ghost of columns up to which they are done at once in any case: one after the other, each would be too
# little for several threads.
SMALL_GHOST = 64 * 1024


def count(samples: int, size: int) -> int:
    """How many ghosts of `size` samples there are; the last one takes what is left over."""
    return max(samples // size, 1)


def of_samples(samples: int, size: int) -> list[slice]:
    """The samples of each ghost."""
    ghosts = count(samples, size)
    return [slice(g * size, (g + 1) * size if g < ghosts - 1 else samples) for g in range(ghosts)]


def _side_by_side(shape: tuple[int, int, int], size: int) -> bool:
    samples, channels, length = shape
    if length == 1:
        return count(samples, size) >= SIDE_BY_SIDE or min(size, samples) * channels <= SMALL_GHOST
    return count(samples, size) * channels >= SIDE_BY_SIDE


@lru_cache(maxsize=1024)
def _cuts(shape: tuple[int, int, int], size: int, itemsize: int, arrays: int) -> tuple[Array, Array]:
    """The cuts of a ghost and of the last one, whose tasks have whole channels."""
    samples, channels, length = shape
    last = samples - (count(samples, size) - 1) * size
    rows = []
    for images in (min(size, samples), last):
        if length == 1:
            line = -(-channels // (VECTOR_BYTES // itemsize)) * (VECTOR_BYTES // itemsize)
            rows.append(np.array(channels_last.cut.Cut(channels, images, False, 2 * line)))
        else:
            own = channels_first.cut.Cut(*channels_first.cut.cut(images, channels, length, itemsize, arrays).tolist())
            whole = channels_first.cut.Cut(*channels_first.cut.cut(*shape, itemsize, arrays).tolist())
            group = rows[0][0] if rows else own.group  # there are as many tasks in the last ghost
            slots = channels * (2 * VECTOR_BYTES // itemsize + KEPT)
            own = own._replace(group=int(group), chunks=1, slots=slots)
            rows.append(np.array(own._replace(ahead=whole.ahead, streaming=whole.streaming)))
    return rows[0], rows[1]


def forward(
    x: Any, residual: Any, affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[float, float], relu: bool,
    size: int, stats: tuple[Any, Any], y: Any,
) -> None:  # fmt: skip
    """`batch_norm.forward` of each ghost of x (N, C, L); stats = (mean, inv_std), (ghosts, C)."""
    momentum, eps = rule
    if x.size and _side_by_side(x.shape, size):
        run = ghost_tasks.forward_columns if x.shape[2] == 1 else ghost_tasks.forward_rows
        moved = np.zeros((2, *stats[0].shape))
        cuts = _cuts(x.shape, size, x.itemsize, 1)
        run.for_work(x.size)(x, residual, affine, (moved[0], moved[1]), eps, relu, size, cuts, (stats[0], stats[1]), y)
        for old, new in zip(running, moved, strict=True):
            if old.size:
                left = (1.0 - momentum) ** np.arange(len(new), -1, -1)  # of what was there before each ghost
                old[...] = left[0] * old + (momentum * left[1:, None] * new).sum(axis=0)
        return
    for g, ghost in enumerate(of_samples(len(x), size)):
        added = residual[ghost] if residual.size else residual
        dispatch.forward(
            x[ghost], added, *affine, *running, momentum, eps, relu, stats[0][g], stats[1][g],
            y[ghost] if y.size else y,
        )  # fmt: skip


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], affine: tuple[Any, Any], relu: bool, residual_given: bool,
    size: int, gradients: tuple[Any, Any, Any, Any],
) -> None:  # fmt: skip
    """`batch_norm.backward` for `forward`."""
    dx, dgamma, dbeta, dresidual = gradients
    none = nothing(x.dtype, 3)
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    if x.size and _side_by_side(x.shape, size):
        run = ghost_tasks.backward_columns if x.shape[2] == 1 else ghost_tasks.backward_rows
        own = np.empty((2, *stats[0].shape))
        run.for_work(x.size)(
            dy, x, y, (stats[0], stats[1]), affine, relu, residual_given, (size,),
            _cuts(x.shape, size, x.itemsize, 3 if residual_given else 2), (dx, own[0], own[1], dresidual),
        )  # fmt: skip
        dgamma[...], dbeta[...] = own[0].sum(axis=0), own[1].sum(axis=0)
        return
    sums = np.empty((2, x.shape[1]), x.dtype)
    dgamma.fill(0)
    dbeta.fill(0)
    for g, ghost in enumerate(of_samples(len(x), size)):
        dispatch.backward(
            dy[ghost], x[ghost], y[ghost] if y.size else none, stats[0][g], stats[1][g], *affine, relu, residual_given,
            dx[ghost] if dx.size else none, sums[0], sums[1], dresidual[ghost] if dresidual.size else none,
        )  # fmt: skip
        dgamma += sums[0]
        dbeta += sums[1]
