"""What to say when a loss or a gradient is not finite: where it began, and what may help."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.model import Model
from nbnorm.jit.arrays import Array

__all__ = ["NonFiniteLossError", "explain", "first_non_finite"]


class NonFiniteLossError(ArithmeticError):
    """A loss, gradient or running statistic is NaN or infinite. Parameters and state are as before that step."""


def explain(
    model: Model,
    step: int,
    loss: float,
    xb: Array | Sequence[Array],
    learning_rate: float,
    broken_state: str | None = None,
) -> str:
    """Return what went wrong in a step on the batch `xb`; the model's state is that before the step.

    `broken_state` is the array of the state that was not finite after it.

    The first cause in the order of computation is named: a parameter or input that was not finite before, a layer's
    output, or, where the loss is finite, a parameter's gradient.
    """
    advice = f"the parameters are as before this step; try a learning rate below {learning_rate:g}, or batch norm"
    if math.isfinite(loss):
        broken = (name for name, each in model.gradients.items() if not np.isfinite(each).all())
        gradient = next(broken, None)
        if gradient is None:
            return (
                f"step {step}: the state {broken_state} is not finite (the loss is {loss:g}): the layer's inputs are "
                "too large for its statistics; scale the data, or those inputs; parameters and state are as before"
            )
        return f"step {step}: the gradient of {gradient} is not finite (the loss is {loss:g}); {advice}"
    first = first_non_finite(model, xb)
    if first in model.input_shapes:
        return f"step {step}: the loss is {loss}: the data of {first} are not finite; nothing was updated"
    if first in model.params:
        cause = f"the parameter {first} is not finite"
    elif first is not None:
        cause = f"{first} is the first layer whose output is not finite"
    else:
        cause = "every layer's output is finite, so look at the targets and the size of the outputs"
    return f"step {step}: the loss is {loss}: {cause}; {advice}"


def first_non_finite(model: Model, x: Array | Sequence[Array], training: bool = True) -> str | None:
    """Name the first parameter, input or layer output that is not finite for this batch; None where all are.

    Runs the layers one by one without fusion. State is left as it was.
    """
    for name, value in model.params.items():
        if not np.isfinite(value).all():
            return name
    arrays = model.check_inputs(x)
    for name, each in zip(model.input_shapes, arrays, strict=True):
        if not np.isfinite(each).all():
            return name
    snapshot = model.flat_state.copy()
    gradients = model.gradients if training else None
    plan = Plan(model.graph, len(arrays[0]), model.dtype, model.params, model.state, gradients)
    plan.load(arrays)
    try:
        for name, outputs in plan.forward_one_by_one():
            if not all(np.isfinite(output).all() for output in outputs):
                return name
    finally:
        model.flat_state[...] = snapshot
    return None
