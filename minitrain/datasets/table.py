"""Tables of numbers in CSV files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minitrain.datasets.images import float_dtype
from minitrain.datasets.labelled import Labelled
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, mismatch

__all__ = ["read_csv"]

EXACT = 2**53  # whole numbers up to here are floats
SEVERAL = "the name or the index of a column, or a list of them"


def read_csv(
    path: str | os.PathLike[str],
    target: str | int | Sequence[str | int],
    *,
    delimiter: str = ",",
    header: bool = True,
    dtype: DTypeLike = "float32",
) -> Labelled:
    """Read a table of numbers, one column of which, or several, are the targets.

    Parameters
    ----------
    path : path
        A file in UTF-8.
    target : str or int, or a list of them
        Names of columns, or their indices, from 0; -1 is the last one.
    delimiter : str
        Between the values.
    header : bool
        Whether the first row holds the names of the columns; without it they are called "0", "1" and so on.
    dtype : "float32" or "float64"
        Of the inputs, and of targets that are no classes.

    Returns
    -------
    Labelled
        The pair (x, y): x (rows, other columns). A target of whole numbers becomes int64 (N,), of words the labels of
        the `classes`, which are sorted; of other numbers floats (N,). Several targets are floats (N, targets).

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Values that are missing or no numbers, rows of another length, no such column: names file, line and column.
    """
    path = Path(path).expanduser()
    chosen = float_dtype(dtype)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(mismatch("delimiter", "one character", repr(delimiter)))
    names, rows = _rows(path, delimiter, expect_boolean("header", header))
    targets = _targets(target, names)
    columns = [k for k in range(len(names)) if k not in targets]
    if not columns:
        raise ValueError(mismatch("target", "to leave a column for the inputs", repr(target)))
    x = np.empty((len(rows), len(columns)), chosen)
    for index, column in enumerate(columns):
        x[:, index] = [_number(path, names[column], line, row[column]) for line, row in rows]
    y, classes = _labels(path, names, rows, targets, chosen)
    return Labelled(x, y, classes=classes, columns=tuple(names[k] for k in columns))


Rows = list[tuple[int, list[str]]]  # with the number of each line


def _rows(path: Path, delimiter: str, header: bool) -> tuple[list[str], Rows]:
    """Return the names of the columns, and the rows."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    rows: Rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows += [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(mismatch(str(path), "a table in UTF-8", error)) from None
    names = [each.strip() for each in rows.pop(0)[1]] if header and rows else None
    if not rows:
        raise ValueError(mismatch(str(path), "a table with at least one row of values", "none"))
    if names is None:
        names = [str(k) for k in range(len(rows[0][1]))]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(mismatch(f"{path}: header", "a name of its own for each column", f"{name!r} twice"))
    for line, row in rows:
        if len(row) != len(names):
            hint = f"; is {delimiter!r} the delimiter?" if len(row) == 1 else ""
            raise ValueError(mismatch(f"{path}, line {line}", f"{len(names)} values", f"{len(row)}{hint}"))
    return names, rows


def _targets(target: Any, names: list[str]) -> list[int]:
    given = list(target) if isinstance(target, (list, tuple)) else [target]
    found = []
    for each in given:
        if isinstance(each, str):
            if each not in names:
                raise ValueError(mismatch("target", f"one of the columns {', '.join(names)}", repr(each)))
            found.append(names.index(each))
        elif isinstance(each, (int, np.integer)) and not isinstance(each, bool):
            if not -len(names) <= each < len(names):
                raise ValueError(mismatch("target", f"a column from {-len(names)} to {len(names) - 1}", each))
            found.append(int(each) % len(names))
        else:
            raise TypeError(mismatch("target", SEVERAL, repr(target)))
    if not found or len(set(found)) < len(found):
        raise ValueError(mismatch("target", SEVERAL, f"{target!r}: none, or one twice"))
    return found


def _labels(path: Path, names: list[str], rows: Rows, targets: list[int], dtype: np.dtype[Any]) -> tuple[Array, Any]:
    """Return the targets, and the names of the classes."""
    if len(targets) > 1:
        numbers = [[_number(path, names[k], line, row[k]) for k in targets] for line, row in rows]
        return np.array(numbers, dtype), ()
    (column,) = targets
    words = [row[column].strip() for _, row in rows]
    missing = next((line for (line, _), word in zip(rows, words, strict=True) if not word), None)
    if missing is not None:
        raise ValueError(mismatch(f"{path}, line {missing}, column {names[column]!r}", "a target", "nothing"))
    if not any(_is_number(word) for word in words):
        classes, labels = np.unique(words, return_inverse=True)
        return labels.astype(np.int64), tuple(map(str, classes))
    values = np.array([_number(path, names[column], line, row[column]) for line, row in rows])
    if (values == np.rint(values)).all() and (abs(values) <= EXACT).all():
        return values.astype(np.int64), ()
    return values.astype(dtype), ()


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _number(path: Path, column: str, line: int, word: str) -> float:
    """Return a value as a float."""
    if _is_number(word):
        return float(word)
    got = repr(word) if word.strip() else "nothing"
    raise ValueError(mismatch(f"{path}, line {line}, column {column!r}", "a finite number", got))
