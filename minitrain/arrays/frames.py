"""Frames and series of pandas and polars as arrays of numbers; neither package is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbnorm.jit.arrays import Array

__all__ = ["frame_numbers", "is_frame"]

PACKAGES = ("pandas", "polars")
REAL = "fiub"
REMEDIES = {  # by what the name of a column's type contains
    "categor": "give the whole numbers of its categories: .cat.codes with pandas, .to_physical() with polars",
    "enum": "give the whole numbers of its categories: .to_physical()",
    "date": "make numbers of it, such as days since the first",
    "time": "make numbers of it, such as days since the first",
    "duration": "make numbers of it, such as days",
    "delta": "make numbers of it, such as days",
    "complex": "give real and imaginary part as columns of their own",
    "list": "give each of its values a column of its own",
    "struct": "give each of its fields a column of its own",
}
STRINGS = (
    "make numbers of it: np.unique(column, return_inverse=True)[1] for labels, pandas.get_dummies or polars' "
    "to_dummies for inputs; or leave it out"
)


def is_frame(given: Any) -> bool:
    """Whether this is a frame or a series of pandas or polars."""
    kind = type(given)
    package = kind.__module__.partition(".")[0]
    return package in PACKAGES and kind.__name__ in ("DataFrame", "Series", "LazyFrame", "Index")


def frame_numbers(label: str, given: Any, expected: str) -> Array:
    """Return a frame as (rows, columns), a series as (rows,).

    Columns of one type keep it; of several, they get the one that holds them all. Rows come in their order, whatever
    their index says.

    Raises
    ------
    TypeError
        Columns that are no numbers: names them.
    ValueError
        Values that are missing in columns of a type that has no NaN.
    """
    kind = type(given).__name__
    if kind == "LazyFrame":
        raise TypeError(f"{label}: expected {expected}, got a LazyFrame, which has no values yet; pass x.collect()")
    if kind != "DataFrame":
        return _column(label, f"a {kind}", given, expected)
    columns = [_column_of(given, index) for index in range(given.shape[1])]
    names = list(given.columns)
    arrays = [
        _column(label, f"a DataFrame whose column {name!r} is", column, expected)
        for name, column in zip(names, columns, strict=True)
    ]
    if not arrays:
        return np.empty(given.shape)
    if len({each.dtype for each in arrays}) == 1:
        whole = np.asarray(given)
        if whole.dtype == arrays[0].dtype:
            return whole
    return np.column_stack([each.astype(np.result_type(*arrays), copy=False) for each in arrays])


def _column_of(frame: Any, index: int) -> Any:
    return frame.to_series(index) if _is_polars(frame) else frame.iloc[:, index]


def _is_polars(given: Any) -> bool:
    return type(given).__module__.partition(".")[0] == "polars"


def _column(label: str, got: str, column: Any, expected: str) -> Array:
    """Return one column (rows,)."""
    words = got if got.endswith(" is") else f"{got} of"
    if _is_polars(column):
        return _polars_column(label, words, column, expected)
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.hasobject:
        _refuse_objects(label, words, column, expected)
    kind = getattr(dtype, "kind", "O")
    if kind not in REAL or "categor" in str(dtype).lower():
        raise TypeError(f"{label}: expected {expected}, got {words} {dtype}; {_remedy(str(dtype))}")
    plain = getattr(dtype, "numpy_dtype", dtype if isinstance(dtype, np.dtype) else None)
    if not isinstance(dtype, np.dtype):
        _refuse_missing(label, words, int(column.isna().sum()), expected, ".fillna(0)", ".dropna()")
        return np.asarray(column.to_numpy(dtype=plain))
    return np.asarray(column.to_numpy())


def _polars_column(label: str, words: str, column: Any, expected: str) -> Array:
    dtype = column.dtype
    name = str(dtype)
    if name.startswith("Array"):
        return np.asarray(column.to_numpy())
    if not dtype.is_numeric() and name != "Boolean":
        raise TypeError(f"{label}: expected {expected}, got {words} {name}; {_remedy(name)}")
    _refuse_missing(label, words, int(column.null_count()), expected, ".fill_null(0)", ".drop_nulls()")
    return np.asarray(column.to_numpy(), np.float64 if dtype.is_decimal() else None)


def _refuse_objects(label: str, words: str, column: Any, expected: str) -> None:
    """Raise for Python objects in a column of pandas, by what they are."""
    kinds = sorted({type(each).__name__ for each in column})
    remedy = STRINGS if "str" in kinds else "leave it out, or use .astype(float)"
    raise TypeError(f"{label}: expected {expected}, got {words} object ({', '.join(kinds[:3])}); {remedy}")


def _refuse_missing(label: str, words: str, missing: int, expected: str, fill: str, drop: str) -> None:
    if missing:
        raise ValueError(
            f"{label}: expected {expected}, got {words} missing {missing} of its values; fill them, {fill}, or leave "
            f"these rows out, {drop}"
        )


def _remedy(dtype: str) -> str:
    name = dtype.lower()
    return next((remedy for part, remedy in REMEDIES.items() if part in name), STRINGS)
