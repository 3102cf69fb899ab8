"""What `Trainer.fit` is given to train and to validate on, checked as a whole before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minitrain.data.feed import ArrayFeed, Feed
from minitrain.data.samples import Samples
from minitrain.data.weights import ClassWeights
from minitrain.model import Model
from minitrain.objective.objective import Objective
from nbnorm.jit.checks import expect_integer, expect_number

__all__ = ["TrainingData"]


@dataclass(frozen=True)
class TrainingData:
    """The arguments of `Trainer.fit` that are about data; see there."""

    x: Any
    y: Any
    batch_size: int
    validation_data: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    validation_split: float = 0.0
    accumulate: int = 1

    def checked(
        self, model: Model, objective: Objective, seed: int, trains_on_one: Callable[[Samples], bool]
    ) -> tuple[Feed, Samples | None]:
        """Return what feeds the training, and what it is validated on.

        Raises
        ------
        ValueError, TypeError
            What does not fit the model or the losses, or does not go together.
        """
        batch_size = expect_integer("batch_size", self.batch_size, 1)
        accumulate = expect_integer("accumulate", self.accumulate, 1)
        share = expect_number("validation_split", self.validation_split, 0.0, 1.0, open_high=True)
        if share and self.validation_data is not None:
            raise ValueError("validation_split: expected 0 beside validation_data; give one of the two")
        classes = None if self.class_weight is None else ClassWeights(objective, self.class_weight)
        samples = Samples(model, objective, self.x, self.y, keep=True, sample_weight=self.sample_weight)
        validation = self._validation(model, objective)
        if share:
            samples, validation = samples.divided(share, seed)
        if classes is not None:
            samples.weigh_classes(classes)
        return ArrayFeed(samples, batch_size, accumulate, trains_on_one), validation

    def _validation(self, model: Model, objective: Objective) -> Samples | None:
        given = self.validation_data
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError("validation_data: expected a pair (x, y), or (x, y, sample_weight)")
        x, y, *weight = given
        try:
            return Samples(model, objective, x, y, keep=True, sample_weight=weight[0] if weight else None)
        except (ValueError, TypeError) as error:
            raise type(error)(f"validation_data: {error}") from None
