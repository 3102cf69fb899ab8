"""A folder of pictures for each class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minitrain.datasets.images import existing_folder, float_dtype
from minitrain.datasets.labelled import Labelled
from minitrain.datasets.pictures import BACKGROUNDS, ENDINGS, in_channels, pictures_in, read_picture, resized
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_one_of, expect_pair, mismatch

__all__ = ["image_folder"]


def image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    background: str = "white",
    dtype: DTypeLike = "float32",
) -> Labelled:
    """Read a folder with a folder of pictures for each class.

    Parameters
    ----------
    path : path
        Its folders are the classes, in the order of their names; pictures may lie in folders below.
    size : int or (rows, columns), optional
        That all pictures get. Without it they must have one size.
    channels : 1 or 3
        Grey or colours. Colours become grey as 0.299 R + 0.587 G + 0.114 B; grey becomes colours by repeating it.
    background : "white" or "black"
        What transparent pictures are laid on.
    dtype : "float32", "float64" or "uint8"
        Of the pictures: floats in [0, 1], or bytes from 0 to 255, which take a quarter of the memory and are made
        floats batch by batch.

    Returns
    -------
    Labelled
        The pair (x, y): x (N, channels, rows, columns), y int64 (N,); `classes` are the folders' names.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder.
    ValueError
        No folders in it, one without pictures, pictures of different sizes, a damaged file: names it.
    ImportError
        Pillow is not installed.
    """
    folder = existing_folder(Path(path).expanduser())
    wanted = None if size is None else expect_pair("size", size)
    if channels not in (1, 3) or isinstance(channels, bool):
        raise ValueError(mismatch("channels", "1 (grey) or 3 (colours)", repr(channels)))
    expect_one_of("background", background, tuple(BACKGROUNDS))
    is_bytes = np.dtype(dtype) == np.uint8 if dtype is not None else False
    chosen = np.dtype(np.uint8) if is_bytes else float_dtype(dtype)
    classes = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not classes:
        raise ValueError(mismatch(str(folder), "a folder of pictures for each class", "no folder"))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = list(pictures_in(folder / name))
        if not found:
            raise ValueError(mismatch(str(folder / name), f"pictures ({', '.join(ENDINGS)})", "none"))
        files += found
        labels += [label] * len(found)
    x = _read(files, wanted, int(channels), background, chosen)
    return Labelled(x, np.array(labels, np.int64), classes=tuple(classes))


def _read(
    files: list[Path], size: tuple[int, int] | None, channels: int, background: str, dtype: np.dtype[Any]
) -> Array:
    """Return all pictures (N, channels, rows, columns)."""
    x: Array | None = None
    for index, file in enumerate(files):
        picture = in_channels(read_picture(file, background), channels)
        if size is not None:
            picture = resized(picture, size)
        if x is None:
            x = np.empty((len(files), *picture.shape), dtype)
        if picture.shape != x.shape[1:]:
            rows, columns = x.shape[2:]
            expected = f"{rows} rows and {columns} columns like {files[0].name}"
            got = f"{picture.shape[1]} and {picture.shape[2]}"
            raise ValueError(mismatch(str(file), expected, f"{got}; size=({rows}, {columns}) resizes all of them"))
        x[index] = np.rint(picture * 255.0) if dtype == np.uint8 else picture
    assert x is not None
    return x
