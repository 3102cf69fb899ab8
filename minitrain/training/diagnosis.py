"""What to say when a loss or a gradient is not finite: where it began, and what may help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.model import Model

__all__ = ["NonFiniteLossError", "explain"]

Array = npt.NDArray[Any]


class NonFiniteLossError(ArithmeticError):
    """A loss or a gradient is NaN or infinite. Parameters and state are as they were before that step."""


def explain(model: Model, step: int, loss: float, xb: Array | Sequence[Array], learning_rate: float) -> str:
    """Return what went wrong in a step on the batch `xb`; the model's state is that before the step.

    The first cause in the order of computation is named: a parameter or input that was not finite before, a layer's
    output, or, where the loss is finite, a parameter's gradient.
    """
    advice = f"the parameters are as before this step; try a learning rate below {learning_rate:g}, or batch norm"
    if math.isfinite(loss):
        broken = (name for name, each in model.gradients.items() if not np.isfinite(each).all())
        return f"step {step}: the gradient of {next(broken)} is not finite (the loss is {loss:g}); {advice}"
    first = model.first_non_finite(xb)
    if first in model.input_shapes:
        return f"step {step}: the loss is {loss}: the data of {first} are not finite; nothing was updated"
    if first in model.params:
        cause = f"the parameter {first} is not finite"
    elif first is not None:
        cause = f"{first} is the first layer whose output is not finite"
    else:
        cause = "every layer's output is finite, so look at the targets and the size of the outputs"
    return f"step {step}: the loss is {loss}: {cause}; {advice}"
