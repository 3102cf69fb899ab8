"""What all data sets share: their type, and checks and scaling of images and labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, mismatch

__all__ = ["Split", "check_labels", "existing_folder", "float_dtype", "scaled"]

Split = tuple[tuple[Array, Array], tuple[Array, Array]]


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype, or raise ValueError if it is neither float32 nor float64."""
    try:
        chosen = None if dtype is None else np.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        chosen = None
    if chosen is None or chosen not in FLOATS:
        raise ValueError(mismatch("dtype", "float32 or float64", repr(dtype)))
    return chosen


def scaled(values: Array, top: float, dtype: np.dtype[Any]) -> Array:
    """Return values / top in a float dtype, made without a second array of that size."""
    images: Array = np.divide(values, dtype.type(top), dtype=dtype)
    return images


def check_labels(labels: Array, classes: int, source: object) -> NDArray[np.int64]:
    """Return labels as int64, or raise ValueError if one is not in [0, classes)."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ValueError(mismatch(str(source), f"labels 0 to {classes - 1}", f"{labels[wrong[0]]} at {wrong[0]}"))
    return labels.astype(np.int64)


def existing_folder(folder: Any) -> Path:
    """Return the folder as a Path, or raise if there is none."""
    path = Path(folder).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"folder: expected a folder, but {path} does not exist")
    if not path.is_dir():
        raise NotADirectoryError(f"folder: expected a folder, but {path} is a file")
    return path
