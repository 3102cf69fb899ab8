"""The vectors of pixels that a convolution's tiles work on: where they are when packed, where in the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["band_vectors", "vector_table", "vectors_of_images"]

Table = NDArray[np.int64]


def vector_table(rows: int, columns: int, gap: int, lanes: int) -> Table:
    """Vectors of so many rows of pixels: (place when packed, place in the result, lanes used)."""
    length, lines = (columns, rows) if gap else (columns * rows, 1)
    line, column = (a.ravel() for a in np.meshgrid(range(lines), range(0, length, lanes), indexing="ij"))
    return np.array([line * (length + gap) + column, line * length + column, np.minimum(lanes, length - column)])


def vectors_of_images(one: Table, images: int, pitches: tuple[int, ...]) -> Table:
    """The table of one image's vectors for several, image by image, that are `pitches` apart: (3, images, vectors)."""
    all_images = one[:, None].repeat(images, axis=1).astype(np.int64)
    all_images[:2] += np.array(pitches)[:, None, None] * np.arange(images)[:, None]
    return all_images


def band_vectors(
    bands: tuple[tuple[int, int], ...], columns: int, gap: int, pitches: tuple[int, ...], size: int, least: int
) -> Table:
    """The tables for bands of so many (rows, images), one after the other, at least `least` vectors in each.

    size: bytes of an item. What is missing is filled up with vectors that have no lanes.
    """
    tables = []
    for rows, images in bands:
        one = vector_table(rows, columns, gap, VECTOR_BYTES // size)
        vectors = vectors_of_images(one, images, pitches).reshape(3, -1)
        tables.append(np.pad(vectors, ((0, 0), (0, max(0, least - vectors.shape[1])))).ravel())
    return np.concatenate(tables)
