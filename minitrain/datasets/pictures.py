"""Picture files as arrays, by the one rule on colours and transparency that everything here follows.

- A transparent picture is laid on a background, white unless something else is asked for.
- Colours become grey as their luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); grey becomes colours by repeating it.
- Values are in [0, 1], whatever the depth of the file; a palette counts as the colours that it stands for.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minitrain.optional import require
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["BACKGROUNDS", "ENDINGS", "in_channels", "read_picture", "resized"]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
BACKGROUNDS = {"white": 1.0, "black": 0.0}
LUMA = (0.299, 0.587, 0.114)
DEEP = {"I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}  # modes of more than 8 bits


def read_picture(path: str | os.PathLike[str], background: str = "white") -> Array:
    """Return a picture as (1, H, W) where it is grey, else as (3, H, W), float32 in [0, 1]; see this module's rules.

    Of several pictures in a file the first is read. Cameras' turned pictures are turned back.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no picture, or a damaged one. The message names the file.
    ImportError
        Pillow is not installed.
    """
    image = require("PIL.Image", "reading pictures")
    turn = require("PIL.ImageOps", "reading pictures").exif_transpose
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    broken = (image.DecompressionBombError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError)
    try:
        with image.open(path) as opened:
            opened.verify()  # the checksums of a PNG file, to its end
        with image.open(path) as opened:
            opened.load()
            return _values(turn(opened), BACKGROUNDS[background])
    except PermissionError:
        raise
    except (*broken, OSError, MemoryError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(mismatch(str(path), "a readable picture", f"{type(error).__name__}: {error}")) from None


def in_channels(picture: Array, channels: int) -> Array:
    """Return pictures (..., C, H, W) of 1 or 3 channels with 1 or 3 channels.

    Raises
    ------
    ValueError
        Another number on one of the two sides.
    """
    own = picture.shape[-3]
    if own == channels:
        return picture
    if channels == 1 and own == 3:
        red, green, blue = (picture[..., k, :, :] for k in range(3))
        grey = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        return np.asarray(grey[..., None, :, :].astype(picture.dtype))
    if channels == 3 and own == 1:
        return np.repeat(picture, 3, axis=-3)
    raise ValueError(mismatch("channels", f"1 or 3 for a picture of {own}", channels))


def resized(picture: Array, size: tuple[int, int]) -> Array:
    """Return a picture (C, H, W) of another size (rows, columns); bilinear, over all pixels where it gets smaller."""
    if picture.shape[1:] == size:
        return picture
    image = require("PIL.Image", "resizing pictures")
    rows, columns = size
    planes = [
        np.asarray(image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((columns, rows), image.BILINEAR))
        for plane in picture
    ]
    return np.stack(planes).clip(0.0, 1.0)


def _values(image: Any, background: float) -> Array:
    """Return an open picture as (1 or 3, H, W)."""
    if image.mode in DEEP:
        deep = np.asarray(image).astype(np.float64)
        return _channels_first(np.clip(deep / DEEP[image.mode], 0.0, 1.0)[..., None])
    if image.mode == "F":
        return _channels_first(np.clip(np.asarray(image, np.float64), 0.0, 1.0)[..., None])
    transparent = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La")
    if not transparent:
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
        return _channels_first(_scaled(pixels if pixels.ndim == 3 else pixels[..., None]))
    pixels = _scaled(np.asarray(image.convert("RGBA")))
    alpha = pixels[..., 3:]
    over = alpha * pixels[..., :3] + (1 - alpha) * np.float32(background)
    return _channels_first(over[..., :1] if grey else over)


def _scaled(pixels: Array) -> Array:
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def _channels_first(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def pictures_in(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and those below, by name; hidden files are left out."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith("."):
            continue
        if each.is_dir():
            yield from pictures_in(each)
        elif each.suffix.lower() in ENDINGS:
            yield each
