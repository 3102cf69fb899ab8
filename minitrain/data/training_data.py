"""What `Trainer.fit` is given to train and to validate on, checked as a whole before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minitrain.arrays import described
from minitrain.data.augmented import AugmentedFeed, checked_augmentations
from minitrain.data.feed import ArrayFeed, Feed
from minitrain.data.samples import Samples
from minitrain.data.stream import Stream, StreamFeed, expect_stream, is_stream
from minitrain.data.weights import ClassWeights
from minitrain.layer import Shape
from minitrain.model import Model
from minitrain.objective.objective import Objective
from nbnorm.jit.checks import expect_integer, expect_number

__all__ = ["Pass", "TrainingData"]


@dataclass(frozen=True)
class Pass:
    """What of a training matters to its data.

    Attributes
    ----------
    epoch, epochs : int
        The number of the first one, and how many there are.
    trains_on_one : callable
        Whether the net can train on one sample of the shapes of these inputs, batch axis first.
    """

    epoch: int
    epochs: int
    trains_on_one: Callable[[tuple[Shape, ...]], bool]


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
    augment: Any = ()

    def checked(
        self, model: Model, objective: Objective, seed: int, pass_: Pass
    ) -> tuple[Feed, Samples | Stream | None]:
        """Return what feeds the training, and what it is validated on.

        Raises
        ------
        ValueError, TypeError
            What does not fit the model or the losses, or does not go together.
        """
        augmentations = checked_augmentations(self.augment, model)
        feed, validation = self._plain(model, objective, seed, pass_)
        return (AugmentedFeed(feed, augmentations, model, objective) if augmentations else feed), validation

    def _plain(
        self, model: Model, objective: Objective, seed: int, pass_: Pass
    ) -> tuple[Feed, Samples | Stream | None]:
        batch_size = expect_integer("batch_size", self.batch_size, 1)
        accumulate = expect_integer("accumulate", self.accumulate, 1)
        share = expect_number("validation_split", self.validation_split, 0.0, 1.0, open_high=True)
        if share and self.validation_data is not None:
            raise ValueError("validation_split: expected 0 beside validation_data; give one of the two")
        classes = None if self.class_weight is None else ClassWeights(objective, self.class_weight)
        if expect_stream("x", self.x, self.y, self.sample_weight):
            stream = self._stream(model, objective, classes, pass_)
            validation = self._validation(model, objective, pass_)
            return StreamFeed(stream, accumulate, pass_.trains_on_one(stream.shapes)), validation
        samples = Samples(model, objective, self.x, self.y, keep=True, sample_weight=self.sample_weight)
        held: Samples | Stream | None = self._validation(model, objective, pass_)
        if share:
            samples, held = samples.divided(share, seed)
        if classes is not None:
            samples.weigh_classes(classes)
        return ArrayFeed(samples, batch_size, accumulate, pass_.trains_on_one), held

    def _stream(self, model: Model, objective: Objective, classes: ClassWeights | None, pass_: Pass) -> Stream:
        if self.validation_split:
            raise ValueError("validation_split: expected 0 where x gives batches; hold some out as validation_data")
        if classes is not None and classes.is_balanced:
            raise ValueError(
                "class_weight: expected weights by class where x gives batches, got 'balanced': how often the classes "
                "occur is not known beforehand"
            )
        stream = Stream(model, objective, self.x, "x", classes)
        if stream.is_one_shot and pass_.epochs > 1:
            raise ValueError(
                f"x: expected batches that can be asked for anew in each of {pass_.epochs} epochs, got "
                f"{described(self.x)}, which runs dry after one; pass a list of batches, a DataLoader, or an object "
                "whose __iter__ begins anew"
            )
        return stream.check(pass_.epoch)

    def _validation(self, model: Model, objective: Objective, pass_: Pass) -> Samples | Stream | None:
        given = self.validation_data
        if given is None:
            return None
        if is_stream(given):
            stream = Stream(model, objective, given, "validation_data")
            if stream.is_one_shot and pass_.epochs > 1:
                raise ValueError(
                    f"validation_data: expected arrays, or batches that can be asked for anew after each of "
                    f"{pass_.epochs} epochs, got {described(given)}, which runs dry after one"
                )
            return stream.check()
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                "validation_data: expected a pair (x, y), (x, y, sample_weight), or an iterable of such batches"
            )
        x, y, *weight = given
        try:
            return Samples(model, objective, x, y, keep=True, sample_weight=weight[0] if weight else None)
        except (ValueError, TypeError) as error:
            raise type(error)(f"validation_data: {error}") from None
