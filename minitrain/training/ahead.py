"""What a training step calls, for processes that compile its kernels meanwhile. See `nbnorm.jit.helpers`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minitrain.graph import Graph
from minitrain.layer import Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from minitrain.optimizers import Optimizer, all_finite
from nbnorm.jit.arrays import Array
from nbnorm.jit.helpers import offered

__all__ = ["calls_of_a_step", "forms", "offered_step"]

Form = tuple[Shape, str]  # of an array: its shape and dtype


def forms(arrays: Sequence[Array]) -> list[Form]:
    """Return what another process needs to know of arrays to call what they are arguments of."""
    return [(each.shape, str(each.dtype)) for each in arrays]


def offered_step(
    model: Model,
    shapes: tuple[Shape, ...],
    objective: Objective,
    optimizer: Optimizer,
    targets: Sequence[Array],
    processes: int | None = None,
) -> contextlib.AbstractContextManager[None]:
    """Within the block, which trains the model once, what must be compiled is compiled by several processes."""
    return offered(
        calls_of_a_step, model.graph, str(model.dtype), model.fuse, shapes, objective, optimizer, forms(targets),
        processes=processes,
    )  # fmt: skip


def calls_of_a_step(
    graph: Graph,
    dtype: str,
    fuse: bool,
    shapes: tuple[Shape, ...],
    objective: Objective,
    optimizer: Optimizer,
    targets: Sequence[Form],
) -> list[Callable[[], Any]]:
    """Return the calls of one step of such a model, in order: arrays as in the real one, with nothing in them.

    `shapes` are those of the inputs, batch axis first; `targets` are shape and dtype of the targets of each loss.
    """
    model = Model.from_graph(graph, dtype=dtype, fuse=fuse)
    with model.held(shapes, training=True, losses=objective.trained) as plan:
        slots = optimizer.slots(model.flat_params)
        calls = list(plan.calls())
        return [
            *(call for _, kind, call in calls if kind == "forward"),
            *(
                partial(term, plan.outputs[term.output], np.zeros(*form), plan.output_gradients.get(term.output))
                for term, form in zip(objective.terms, targets, strict=True)
            ),
            *(call for _, kind, call in calls if kind != "forward"),
            partial(all_finite, model.flat_gradients, model.parameter_runs.trained),
            partial(optimizer.update, model.flat_params, model.flat_gradients, slots, 0, model.parameter_runs),
        ]
