"""What constructors take for a number, a count or a truth value: one rule for all, and plain values are kept."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from minitrain import callbacks, layers, losses, metrics, optimizers, schedules

ROOMS = (layers, losses, optimizers, schedules)
FIRST = {
    "Step": {"start": 0.1, "every": 3}, "Constant": {"value": 0.1}, "Cosine": {"start": 0.1, "total_steps": 9},
    "LinearWarmup": {"steps": 3, "then": 0.1}, "OneCycle": {"peak": 0.1, "total_steps": 9},
    "Scaled": {"then": 0.1, "factor": 0.5},
    "Dense": {"features": 4}, "Conv2D": {"filters": 4, "kernel": 3},
}  # fmt: skip
OTHERS = [
    (callbacks.EarlyStopping, {"patience": 3, "min_delta": 0.5, "restore_best": True}),
    (callbacks.Checkpoint, {"path": "c", "best_only": False, "best": 0.5, "every_steps": 3}),
    (callbacks.CSVLog, {"path": "c", "append": True}),
    (metrics.TopK, {"k": 3}),
    (metrics.BinaryAccuracy, {"threshold": 0.5}),
    (metrics.F1, {"threshold": 0.5}),
]


def _fields():
    """Yield classes, arguments that make one, and an argument that is a number, a count or a truth value."""
    for room in ROOMS:
        for name in room.__all__:
            made = getattr(room, name)
            if not (isinstance(made, type) and dataclasses.is_dataclass(made)):
                continue
            first = _required(made)
            try:
                instance = made(**first)
            except TypeError:  # a base class
                continue
            for field in dataclasses.fields(made):
                value = getattr(instance, field.name)
                if field.init and type(value) in (bool, int, float):
                    yield pytest.param(made, first, field.name, value, id=f"{name}.{field.name}")
    for made, arguments in OTHERS:
        for argument, value in arguments.items():
            if type(value) in (bool, int, float):
                yield pytest.param(made, arguments, argument, value, id=f"{made.__name__}.{argument}")


def _required(made):
    known = FIRST.get(made.__name__, {})
    needed = [each.name for each in inspect.signature(made).parameters.values() if each.default is each.empty]
    return {name: known.get(name, 3) for name in needed} | ({"every": 3} if made.__name__ == "Step" else {})


FIELDS = list(_fields())


def made_with(made, arguments, argument, value):
    others = {name: each for name, each in arguments.items() if not (name == "best_only" and value is True)}
    return made(**others | {argument: value})


def may_be_float(made, argument):
    return "float" in str(inspect.signature(made).parameters[argument].annotation)


def test_there_are_many():
    assert len(FIELDS) > 40


@pytest.mark.parametrize(("made", "arguments", "argument", "value"), FIELDS)
def test_values_of_numpy_are_kept_plain(made, arguments, argument, value):
    kinds = {
        bool: (np.bool_, np.array),
        int: (np.int8, np.uint16, np.int32, np.int64, np.uint64, np.array),
        float: (np.float16, np.float32, np.float64, np.longdouble, np.array),
    }[type(value)]
    for kind in kinds:
        kept = getattr(made_with(made, arguments, argument, kind(value)), argument, value)
        assert isinstance(kept, (bool, int, float, tuple)), (kind, type(kept))
        assert type(kept) is not np.float64
        json.dumps(kept)


@pytest.mark.parametrize(("made", "arguments", "argument", "value"), FIELDS)
def test_what_is_of_another_kind_is_refused(made, arguments, argument, value):
    if type(value) is bool:
        wrong = ["False", "", 2.5, [True], np.array([True])]
    elif may_be_float(made, argument):
        wrong = [True, np.True_, np.array(True), "0.5", 1j, float("nan"), np.array([0.5])]
    else:
        wrong = [True, np.True_, 4.7, np.float32(4), "4", np.array(4.0)]
    for each in wrong:
        with pytest.raises((TypeError, ValueError), match=argument):
            made_with(made, arguments, argument, each)
