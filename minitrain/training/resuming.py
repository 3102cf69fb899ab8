"""What a checkpoint stores of a running `fit` beside the model, and how a trainer takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minitrain.objective.position import CallbackState, Position, join_arrays, split_arrays
from minitrain.training.step import Learner
from nbnorm.jit.arrays import Array

__all__ = ["KEY", "PREFIX", "read_position", "run_state"]

KEY = "fit"  # in the description of a checkpoint
PREFIX = "fit"  # of the names of arrays; an optimizer's vectors have names of their own, without a dot


def run_state(trainer: Learner) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the fit that runs, or that was interrupted, for a checkpoint: an entry of its description, and arrays.

    Both are empty where nothing was fitted since the trainer was made.
    """
    position = trainer.position
    if position is None:
        return {}, {}
    arrays: dict[str, Array] = {}
    state = position.state(position.is_inside(trainer.epoch, trainer.steps))
    callbacks = [{"of": identity, "state": dict(each)} for identity, each in trainer.callback_states()]
    return {KEY: split_arrays({"position": state, "callbacks": callbacks}, arrays, PREFIX)}, arrays


def read_position(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> Callable[[Learner], None]:
    """Check what `run_state` gave; return what puts it into a trainer, once its epoch and steps are those of the file.

    Raises
    ------
    ValueError
        It is damaged.
    """
    if KEY not in description:
        return lambda trainer: trainer.go_on_from(None)
    try:
        state = join_arrays(description[KEY], arrays)
        callbacks: list[CallbackState] = [(str(each["of"]), dict(each["state"])) for each in state["callbacks"]]
        position = Position.from_state(state["position"], int(description["steps"]), callbacks)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{KEY}: not the state of a fit ({type(error).__name__}: {error})") from None
    return lambda trainer: trainer.go_on_from(position)
