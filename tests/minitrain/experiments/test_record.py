"""Records are written to JSON and read back as they were."""

import json
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import pytest

from minitrain.experiments.record import Record

T = TypeVar("T")


@dataclass(frozen=True)
class Point(Record):
    place: tuple[float, ...]
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Both(Record, Generic[T]):
    with_: T
    others: list[T]


@dataclass(frozen=True)
class Whole(Both[Point]):
    loss: float | None
    named: dict[str, list[int | None]]
    nested: Both[float]


def test_records_come_back_from_json():
    whole = Whole(
        with_=Point((1.0, 2.0)),
        others=[Point((), "b")],
        loss=None,
        named={"c": [1, None]},
        nested=Both(1.5, [2.5]),
    )
    text = json.dumps(whole.to_json())
    assert list(json.loads(text)) == ["with", "others", "loss", "named", "nested"]
    assert Whole.from_json(json.loads(text)) == whole


def test_missing_keys_are_errors():
    with pytest.raises(KeyError, match="kind"):
        Point.from_json({"place": [1.0]})
