"""Compile everything now rather than at the first call."""

import sys
import time

import numpy as np

from nbnorm.batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_infer
from nbnorm.group_norm import group_norm_backward, group_norm_forward
from nbnorm.jit.checks import FLOATS, mismatch
from nbnorm.layer_norm import layer_norm_backward, layer_norm_forward

__all__ = ["warmup"]

# One shape for each choice of kernel: serial and parallel, rows of values and columns of channels; of copies, too, of
# which small arrays need none.
SHAPES = ((2, 2, 3), (2, 2), (2, 64, 64), (8, 64, 128), (64, 512))


def warmup(dtypes: tuple[str, ...] = ("float32",)) -> None:
    """Compile, or load from the cache on disk, every kernel for the given dtypes; progress goes to stderr.

    Parameters
    ----------
    dtypes : sequence of "float32" and "float64"

    Examples
    --------
    >>> import nbnorm
    >>> nbnorm.warmup(("float32",))
    """
    for name in (dtypes,) if isinstance(dtypes, str) else dtypes:
        if np.dtype(name) not in FLOATS:
            raise TypeError(mismatch("dtypes", "float32 or float64", repr(name)))
        started = time.perf_counter()
        for done, shape in enumerate(SHAPES):
            _show(f"\rnbnorm: {name} {done}/{len(SHAPES)}")
            _run(np.zeros(shape, name))
        _show(f"\rnbnorm: {name} ready in {time.perf_counter() - started:.1f} s\n")


def _run(x: np.ndarray) -> None:
    channel = np.ones(x.shape[1], x.dtype)
    _, stats = batch_norm_forward(x, channel, channel)
    batch_norm_backward(x, x, stats, channel, channel)
    batch_norm_backward(x, x, None, channel, channel, running_mean=channel, running_var=channel)
    batch_norm_infer(x, channel, channel)
    if x.ndim == 3:  # the kernels of all norms of rows: by element, by channel, and the copy of the channels
        _, rows = layer_norm_forward(x, axes=(1,))
        layer_norm_backward(x, x, rows, axes=(1,))
        _, groups = group_norm_forward(x, 2, channel, channel)
        group_norm_backward(x, x, groups, channel, channel)


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
