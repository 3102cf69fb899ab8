"""The norms of nbnorm, each with its twin: an entry here gets the tests of arguments, memory, numerics and processes.

`@each_norm` runs a test for all of them.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference_batch_norm
import reference_frozen_batch_norm

import nbnorm
from nbnorm.kernels.batch_norm import channels_first, channels_last
from nbnorm.layout import as_array


@dataclass(frozen=True)
class Norm:
    """A norm as the tests call it; arrays are (N, C, *spatial) unless the functions below say otherwise.

    forward(x, gamma, beta, eps=, activation=, residual=, out=) returns y and stats, backward(dy, x, stats, gamma, beta,
    activation=, y=, out=) returns dx, dgamma, dbeta, dresidual.
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    reference: Any  # the float64 twin: forward, backward, statistics
    torch: Callable[..., Any]  # of PyTorch's functional module, x, gamma, beta: its forward pass in training
    parameters: Callable[[tuple[int, ...]], tuple[int, ...]]  # the shape of gamma and beta for a shape of x
    too_few: tuple[Any, ...]  # shapes of x with too few values for statistics
    enough: str  # what is expected then
    numerics: tuple[Any, ...]  # shapes that take each way through its kernels
    processes: tuple[Any, ...]  # more of these, and smaller
    accuracy: tuple[Any, ...]  # the same, for other widths of vectors
    streamed: tuple[Any, ...]  # shapes whose ends and borders are met by stores past the caches
    cuts: tuple[Any, ...]  # modules with STREAM_BYTES and a cached `cut`, whose result `Cut` names
    kernels: tuple[Any, ...]  # those of training, which are compiled once for a dtype
    extra: Callable[
        ..., list[Any]
    ]  # what else is computed from x, gamma, beta, mean, var: running statistics, inference
    statistic: str = "stats.mean"  # the argument that is wrong where the mean has a wrong shape

    def __str__(self) -> str:
        return self.name

    @contextlib.contextmanager
    def stored_past_caches(self, streaming: bool):
        """Plan all outputs of training so, or none: otherwise only those of many megabytes are."""
        with contextlib.ExitStack() as stack:
            for module in self.cuts:
                stack.enter_context(mock.patch.object(module, "STREAM_BYTES", 0 if streaming else 2**60))
                stack.callback(module.cut.cache_clear)
                module.cut.cache_clear()
            yield


def _extra_of_batch_norm(x, gamma, beta, mean, var, activation):
    """Statistics that moved, and inference by them."""
    nbnorm.batch_norm_forward(x, gamma, beta, mean, var, activation=activation)
    return [mean, var, nbnorm.batch_norm_infer(x, mean, var, gamma, beta)]


batch_norm = Norm(
    name="batch_norm",
    forward=nbnorm.batch_norm_forward,
    backward=nbnorm.batch_norm_backward,
    reference=reference_batch_norm,
    torch=lambda functional, x, gamma, beta: functional.batch_norm(x, None, None, gamma, beta, training=True),
    parameters=lambda shape: shape[1:2],
    too_few=((1, 5), (0, 5, 3)),
    enough="expected at least 2 values per channel in training",
    # Rows of values, few channels cut into chunks, columns of channels in one task and in several.
    numerics=((16, 20, 14, 14), (4, 3, 70, 70), (300, 160), (9000, 5)),
    # Whole channels, groups of them, few channels cut into chunks (of images, of rows), columns in groups and chunks.
    processes=(
        (20, 20, 30, 30), (40, 32, 7, 7), (6, 3, 70, 70), (1, 2, 40001), (200, 200), (700, 300), (9000, 7), (2, 5, 3),
    ),
    accuracy=((6, 20, 5, 5), (40, 32, 7), (3, 2, 70), (1, 2, 5001), (30, 70), (70, 7), (9, 16)),
    streamed=(
        (3, 20, 7, 7), (2, 5, 30, 31), (4, 33, 5), (40, 3, 16, 16), (70, 100), (33, 1100), (300, 40), (9, 16),
    ),
    cuts=(channels_first.cut, channels_last.cut),
    kernels=(
        channels_first.forward.forward, channels_last.forward.forward,
        channels_first.backward.backward, channels_last.backward.backward,
    ),
    extra=_extra_of_batch_norm,
)  # fmt: skip


class GivenStats(nbnorm.BatchNormStats):
    """What `frozen_forward` normalized by."""

    eps = 1e-5


def frozen_forward(x, gamma=None, beta=None, *, eps=1e-5, **rest):
    """Inference by the statistics of the twin, as a forward pass."""
    array = as_array("x", x)
    mean, var = reference_frozen_batch_norm.running_statistics(array.shape[1] if array.ndim > 1 else 1, array.dtype)
    y = nbnorm.batch_norm_infer(x, mean, var, gamma, beta, eps=eps, **rest)
    stats = GivenStats(mean, 1 / np.sqrt(var.astype("float64") + eps))
    stats.eps = eps
    return y, stats


def frozen_backward(dy, x, stats, gamma=None, beta=None, **rest):
    """Gradients by these statistics."""
    if stats is None:
        return nbnorm.batch_norm_backward(dy, x, None, gamma, beta, **rest)
    _, var = reference_frozen_batch_norm.running_statistics(x.shape[1], x.dtype)
    return nbnorm.batch_norm_backward(
        dy, x, None, gamma, beta, running_mean=stats.mean, running_var=var, eps=stats.eps, **rest
    )


def _torch_by_running_statistics(functional, x, gamma, beta):
    mean, var = (x.new_tensor(part) for part in reference_frozen_batch_norm.running_statistics(x.shape[1]))
    return functional.batch_norm(x, mean, var, gamma, beta, training=False)


frozen_batch_norm = dataclasses.replace(
    batch_norm,
    name="frozen_batch_norm",
    forward=frozen_forward,
    backward=frozen_backward,
    reference=reference_frozen_batch_norm,
    torch=_torch_by_running_statistics,
    too_few=(),
    numerics=(),  # nothing of the statistics is computed
    cuts=(),  # nothing is stored past the caches
    kernels=(channels_first.frozen.frozen, channels_last.frozen.frozen),
    extra=lambda *_: [],
    statistic="running_mean",
)

NORMS = [batch_norm, frozen_batch_norm]

each_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
each_norm_of_channels = pytest.mark.parametrize("norm", [norm for norm in NORMS if norm.numerics], ids=str)


def each_norm_and_shape(which: str):
    """Run a test for all norms, and for all of their shapes of this kind."""
    cases = [pytest.param(norm, shape, id=f"{norm}-{shape}") for norm in NORMS for shape in getattr(norm, which)]
    return pytest.mark.parametrize(("norm", "shape"), cases)


def draw(norm: Norm, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0):
    """x, dy, residual, gamma, beta"""
    rng = np.random.default_rng(seed)
    big = [rng.standard_normal(shape).astype(dtype) for _ in range(3)]
    return [*big, *(rng.standard_normal(norm.parameters(shape)).astype(dtype) for _ in range(2))]
