"""What a person passes where numbers are wanted, as a NumPy array; and words for what is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minitrain.arrays.frames import frame_numbers, is_frame
from nbnorm.jit.arrays import Array

__all__ = ["as_numbers", "described", "shape_of"]

REAL = "fiub"  # kinds of dtype: floats, integers and booleans
KINDS = {  # of those that are no numbers: what they are, and what to do
    "c": ("complex numbers", "pass real and imaginary part as numbers of their own"),
    "U": ("strings", "turn them into numbers first: .astype(float), or np.unique(..., return_inverse=True)"),
    "S": ("bytes", "turn them into numbers first: .astype(float), or np.frombuffer"),
    "T": ("strings", "turn them into numbers first: .astype(float), or np.unique(..., return_inverse=True)"),
    "M": ("dates", "turn them into numbers first, such as days: (t - t.min()) / np.timedelta64(1, 'D')"),
    "m": ("durations", "turn them into numbers first, such as days: t / np.timedelta64(1, 'D')"),
    "V": ("records", "choose their fields, or use numpy.lib.recfunctions.structured_to_unstructured"),
}


def as_numbers(label: str, given: Any, expected: str = "numbers") -> Array:
    """Return what was given as a plain array of real numbers, without a copy where it is one.

    Arrays of every kind, anything that NumPy makes an array of (tensors, frames, memory maps), lists of lists.

    Raises
    ------
    TypeError
        What is no numbers: names the argument, the type that came and the remedy.
    ValueError
        Samples of different shapes; masked values, which would be lost.
    """
    if type(given) is np.ndarray and given.dtype.kind in REAL:
        return given
    if is_frame(given):
        return frame_numbers(label, given, expected)
    hidden = sum(np.count_nonzero(np.ma.getmaskarray(each)) for each in _masked_arrays(given))
    if hidden:
        raise ValueError(
            f"{label}: expected {expected}, got a masked array with {hidden} masked: what is masked would be lost; "
            "fill it with numbers, x.filled(0), or leave these samples out"
        )
    try:
        array = np.asarray(given)
        if array.dtype == object and array.ndim == 0 and callable(getattr(given, "to_numpy", None)):
            array = np.asarray(given.to_numpy())
    except Exception as error:  # whatever a foreign object raises when it is asked for its numbers
        _refuse_ragged(label, given, expected)
        what = described(given)
        raise TypeError(f"{label}: expected {expected}, got {what}, of which NumPy makes no array: {error}") from error
    if array.dtype.kind in REAL:
        return array
    if array.dtype == object:
        _refuse_objects(label, given, array, expected)
    words, remedy = KINDS.get(array.dtype.kind, ("no numbers", "pass an array of floats"))
    inside = "" if isinstance(given, np.ndarray) else f" in {described(given)}"
    raise TypeError(f"{label}: expected {expected}, got dtype {array.dtype} ({words}{inside}); {remedy}")


def described(given: Any) -> str:
    """Name the type of what was given, for a message: "a list", "a DataFrame", "None"."""
    if given is None:
        return "None"
    name = "array" if isinstance(given, np.ndarray) else type(given).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shape_of(given: Any) -> tuple[int, ...] | None:
    """Return the shape of one sample; None where it has none, such as a list of unlike lists."""
    try:
        return tuple(np.shape(given))
    except Exception:  # whatever a foreign object raises
        return None


def _masked_arrays(given: Any) -> Iterator[Any]:
    if isinstance(given, np.ma.MaskedArray):
        yield given
    elif isinstance(given, (list, tuple)):
        for each in given:
            if isinstance(each, (list, tuple, np.ma.MaskedArray)):
                yield from _masked_arrays(each)


def _refuse_ragged(label: str, samples: Any, expected: str) -> None:
    """Raise where these are samples of different shapes."""
    if not isinstance(samples, (list, tuple, np.ndarray)) or not len(samples):
        return
    first = shape_of(samples[0])
    for index, each in enumerate(samples):
        shape = shape_of(each)
        if shape is None or shape != first:
            unlike = f"sample {index} holds lists of different lengths"
            if shape is not None:
                unlike = f"sample 0 has shape {first}, sample {index} has shape {shape}"
            raise ValueError(
                f"{label}: expected {expected}, got samples of different shapes: {unlike}; pad or cut them to one shape"
            )


def _refuse_objects(label: str, given: Any, array: Array, expected: str) -> None:
    """Raise for Python objects, by what they are."""
    got = described(given)
    remedy = "pass an array"
    sample = array.flat[0] if array.size else None
    if array.ndim == 0:
        if callable(getattr(given, "toarray", None)):
            got, remedy = f"{got}, which is sparse", "pass x.toarray()"
        elif isinstance(given, Mapping):
            remedy = "pass the array under one of its names"
        elif isinstance(given, Iterator):
            remedy = "collect it first: np.stack(list(x))"
        elif given is not None and callable(getattr(given, "__iter__", None)):
            remedy = "pass an array: np.stack(list(x))"
    elif callable(getattr(sample, "toarray", None)):
        got, remedy = f"{got} of {type(sample).__name__} objects, which are sparse", "pass arrays: x.toarray()"
    elif isinstance(sample, (list, tuple, np.ndarray)):
        _refuse_ragged(label, array.reshape(-1), expected)
        got, remedy = f"{got} of {type(sample).__name__} objects", "make one array of them: np.stack(x)"
    else:
        others = {type(each).__name__ for each in array.flat if not isinstance(each, (int, float, np.number, np.bool_))}
        held = f"among them {', '.join(sorted(others)[:3])}" if others else "all of them numbers"
        remedy = "leave these columns or values out, or turn them into numbers" if others else "use .astype(float)"
        got = f"{got} of Python objects (dtype object), {held}"
    raise TypeError(f"{label}: expected {expected}, got {got}; {remedy}")
