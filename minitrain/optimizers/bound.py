"""An optimizer with the model that it updates: what one's own training loop calls after each backward pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from minitrain.optimizers.gradients import all_finite
from minitrain.optimizers.runs import ParameterRun, ParameterRuns
from nbnorm.jit.arrays import Array

__all__ = ["BoundOptimizer", "Learning", "Rule"]


class Rule(Protocol):
    """What is bound: an optimizer."""

    def check(self, runs: Sequence[ParameterRun]) -> None: ...
    def slots(self, parameters: Array) -> dict[str, Array]: ...
    def update(
        self, params: Array, grads: Array, slots: dict[str, Array], step: int, penalized: ParameterRuns
    ) -> None: ...


class Learning(Protocol):
    """What it is bound to: a model."""

    @property
    def flat_params(self) -> Array: ...
    @property
    def flat_gradients(self) -> Array: ...
    @property
    def gradients(self) -> Mapping[str, Array]: ...
    @property
    def parameter_runs(self) -> ParameterRuns: ...


class BoundOptimizer:
    """Updates one model from its gradients; made by `Optimizer.bind`.

    Attributes
    ----------
    slots : dict of arrays
        The optimizer's own vectors, such as momentum.
    steps : int
        Updates so far.
    """

    def __init__(self, optimizer: Rule, model: Learning) -> None:
        optimizer.check(model.parameter_runs)
        self._optimizer = copy.copy(optimizer)  # it remembers how it divided the work: one model's
        self._model = model
        self.slots = optimizer.slots(model.flat_params)
        self.steps = 0

    def update(self) -> None:
        """Make one step with the gradients that the last backward pass left in the model.

        Raises
        ------
        ArithmeticError
            One of them is not finite; nothing is updated.
        """
        model = self._model
        if not all_finite(model.flat_gradients, model.parameter_runs.trained):
            name = next(name for name, each in model.gradients.items() if not np.isfinite(each).all())
            raise ArithmeticError(f"step {self.steps}: the gradient of {name} is not finite; nothing was updated")
        self._optimizer.update(model.flat_params, model.flat_gradients, self.slots, self.steps, model.parameter_runs)
        self.steps += 1

    def __repr__(self) -> str:
        return f"<BoundOptimizer {self._optimizer!r} after {self.steps} steps>"
