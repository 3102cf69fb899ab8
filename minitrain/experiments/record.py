"""Results as dataclasses that are written to JSON and read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """Base of dataclasses that results.json holds: a key for each field, in the order of the fields.

    A key that is a word of Python's own has an underscore behind it as a field (`with_`), and none in the file.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Point(Record):
    ...     name: str
    ...     place: tuple[float, ...]
    >>> Point.from_json({"name": "a", "place": [1.0, 2.0]})
    Point(name='a', place=(1.0, 2.0))
    >>> Point("a", (1.0, 2.0)).to_json()
    {'name': 'a', 'place': (1.0, 2.0)}
    """

    def to_json(self) -> dict[str, Any]:
        """Return dicts, lists, tuples, strings and numbers, for `json.dumps`."""
        return asdict(self, dict_factory=lambda items: {_key(name): value for name, value in items})

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the record that `json.loads` gave the keys of; lists become tuples where the fields are.

        Raises
        ------
        KeyError
            A key is missing.
        """
        record: Self = _read(cls, value, {})
        return record


def _key(name: str) -> str:
    return name.rstrip("_")


def _read(kind: Any, value: Any, known: dict[Any, Any]) -> Any:
    """Return `value` as what the type hint `kind` says; `known` holds what stands for type variables."""
    if isinstance(kind, TypeVar):
        return _read(known[kind], value, known)
    container, arguments = get_origin(kind) or kind, get_args(kind)
    if container in (Union, UnionType):  # of one type and None
        (present,) = (each for each in arguments if each is not NoneType)
        return None if value is None else _read(present, value, known)
    if container in (list, tuple):  # both of one type throughout
        return container(_read(arguments[0], each, known) for each in value)
    if container is dict:
        return {name: _read(arguments[1], each, known) for name, each in value.items()}
    return _read_fields(container, value, known | _variables(kind)) if is_dataclass(container) else value


def _read_fields(record: Any, value: Any, known: dict[Any, Any]) -> Any:
    hints = get_type_hints(record)
    return record(**{each.name: _read(hints[each.name], value[_key(each.name)], known) for each in fields(record)})


def _variables(kind: Any) -> dict[Any, Any]:
    """Return what stands for the type variables of a generic dataclass, and of the bases of any."""
    found: dict[Any, Any] = {}
    classes = (get_origin(kind) or kind).__mro__
    for each in (kind, *(base for cls in classes for base in vars(cls).get("__orig_bases__", ()))):
        generic = get_origin(each)
        if is_dataclass(generic):
            found |= dict(zip(_parameters(generic), get_args(each), strict=True))
    return found


def _parameters(generic: Any) -> tuple[Any, ...]:
    parameters: tuple[Any, ...] = generic.__parameters__
    return parameters
