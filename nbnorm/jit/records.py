"""Integers with names: a NamedTuple inside a kernel for what is one flat row of int64 outside.

A kernel that is called with one array pays for one argument, however many integers are in it; one that is called with
tuples pays for each of them. So a plan becomes a row on the way in, and a NamedTuple of the same class inside, where it
costs nothing: the class is the only place that says which integer is where.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from nbnorm.jit.dispatch import device_from_text

__all__ = ["record", "row_of", "size_of"]


def size_of(kind: type) -> int:
    """How many integers of a row a NamedTuple class takes, those of the NamedTuples in it included.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> class Plane(NamedTuple):
    ...     height: int
    ...     width: int
    >>> class Problem(NamedTuple):
    ...     images: int
    ...     plane: Plane
    >>> size_of(Problem)
    3
    """
    return sum(size_of(field) if _is_record(field) else 1 for field in _fields(kind))


def row_of(values: tuple[Any, ...], *tables: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row that `record` reads: all integers in the order of their fields, then the tables.

    Examples
    --------
    >>> row_of((8, (28, 30)), np.array([0, 1, 2]))
    array([ 8, 28, 30,  0,  1,  2])
    """
    return np.concatenate([np.array(list(_flattened(values)), dtype=np.int64), *tables])


def record(kind: type, first: int = 0) -> Callable[..., Any]:
    """Make the function of kernels that reads a NamedTuple of `kind` from row[first:].

    Fields are annotated with int, with bool (whatever is not 0), or with another such class, whose fields follow in
    their order. The class must be one of a module's.

    Numba cannot hand a NamedTuple to the body of a `prange` loop: what runs there reads it from the row itself.

    Examples
    --------
    A module with kernels has ``problem_of = record(Problem)``; a kernel says ``problem = problem_of(row)``, and then
    ``problem.plane.height``.
    """
    names: dict[str, Any] = {}
    expression = _expression(kind, first, names)
    # a function with as many indices as fields: what a program cannot write out, it says in text, as namedtuple does
    read = eval(f"lambda row: {expression}", names)
    # compiled code is linked by name
    read.__name__ = read.__qualname__ = f"read_{kind.__qualname__}_{first}".replace(".", "_")
    read.__module__ = kind.__module__
    return device_from_text(read)


def _expression(kind: type, first: int, names: dict[str, Any]) -> str:
    """The call that makes a `kind` of row[first:]; the classes in it get names."""
    name = f"kind_{len(names)}"
    names[name] = kind
    parts = []
    for field in _fields(kind):
        parts.append(_expression(field, first, names) if _is_record(field) else f"row[{first}]")
        if field is bool:
            parts[-1] += " != 0"
        first += size_of(field) if _is_record(field) else 1
    return f"{name}({', '.join(parts)})"


@cache
def _fields(kind: type) -> tuple[Any, ...]:
    """The types of a NamedTuple's fields, in order."""
    hints = get_type_hints(kind)
    for name in kind._fields:  # type: ignore[attr-defined]
        if hints[name] not in (int, bool) and not _is_record(hints[name]):
            raise TypeError(f"{kind.__qualname__}.{name}: expected int, bool or a NamedTuple of them")
    return tuple(hints[name] for name in kind._fields)  # type: ignore[attr-defined]


def _is_record(field: Any) -> bool:
    return isinstance(field, type) and issubclass(field, tuple) and field is not tuple


def _flattened(values: tuple[Any, ...]) -> Iterator[int]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flattened(value)
        else:
            yield int(value)
