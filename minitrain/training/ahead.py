"""What a training step calls, for processes that compile its kernels meanwhile. See `nbnorm.jit.helpers`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.graph import Graph
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.optimizers import Optimizer, all_finite
from nbnorm.jit.helpers import offered

__all__ = ["calls_of_a_step", "offered_step"]


def offered_step(
    model: Model,
    batch: int,
    loss: Loss,
    optimizer: Optimizer,
    targets: npt.NDArray[Any],
    processes: int | None = None,
) -> contextlib.AbstractContextManager[None]:
    """Within the block, which trains the model once, what must be compiled is compiled by several processes."""
    return offered(
        calls_of_a_step, model.graph, str(model.dtype), model.fuse, batch, loss, optimizer, targets.shape,
        str(targets.dtype), processes=processes,
    )  # fmt: skip


def calls_of_a_step(
    graph: Graph,
    dtype: str,
    fuse: bool,
    batch: int,
    loss: Loss,
    optimizer: Optimizer,
    targets_shape: tuple[int, ...],
    targets_dtype: str,
) -> list[Callable[[], Any]]:
    """Return the calls of one step of such a model, in order: arrays as in the real one, with nothing in them."""
    model = Model.from_graph(graph, dtype=dtype, fuse=fuse)
    plan = model.training_plan(batch)
    targets: npt.NDArray[Any] = np.zeros(targets_shape, targets_dtype)
    slots = optimizer.slots(model.flat_params)
    calls = list(plan.calls())
    return [
        *(call for _, kind, call in calls if kind == "forward"),
        partial(loss, plan.output, targets, plan.output_gradient),
        *(call for _, kind, call in calls if kind != "forward"),
        partial(all_finite, model.flat_gradients),
        partial(optimizer.update, model.flat_params, model.flat_gradients, slots, 0, model.parameter_runs),
    ]
