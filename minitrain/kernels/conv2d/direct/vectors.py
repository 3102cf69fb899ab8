"""The vectors of pixels that a convolution's tiles work on: where they are when packed, where in the result."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.cutting import Row

__all__ = ["Vectors", "band_vectors", "vector_table", "vectors_of_images"]


class Vectors(NamedTuple):
    """Vectors [first, first + number) of a table of three rows that are `pitch` apart. Inside of kernels only.

    The rows: the offset in the packed planes, the offset in the result, how many lanes are used.
    """

    table: Any
    first: int
    number: int
    pitch: int


def vector_table(rows: int, columns: int, gap: int, lanes: int) -> Row:
    """Vectors of so many rows of pixels: (offset when packed, offset in the result, lanes used).

    With a gap of columns between packed rows, a vector ends with its row; else it runs on over their ends.
    """
    length, lines = (columns, rows) if gap else (columns * rows, 1)
    line, column = (a.ravel() for a in np.meshgrid(range(lines), range(0, length, lanes), indexing="ij"))
    return np.array([line * (length + gap) + column, line * length + column, np.minimum(lanes, length - column)])


def vectors_of_images(one: Row, images: int, pitches: tuple[int, int]) -> Row:
    """The table of one image's vectors for several, image by image, (3, images, vectors).

    pitches: from image to image when packed, and in the result.
    """
    all_images = one[:, None].repeat(images, axis=1).astype(np.int64)
    all_images[:2] += np.array(pitches)[:, None, None] * np.arange(images)[:, None]
    return all_images


def band_vectors(
    bands: tuple[tuple[int, int], ...], columns: int, gap: int, pitches: tuple[int, int], lanes: int, least: int
) -> Row:
    """The tables for bands of so many (rows, images), one after the other, at least `least` vectors in each.

    What is missing is filled up with vectors that have no lanes.
    """
    tables = []
    for rows, images in bands:
        vectors = vectors_of_images(vector_table(rows, columns, gap, lanes), images, pitches).reshape(3, -1)
        tables.append(np.pad(vectors, ((0, 0), (0, max(0, least - vectors.shape[1])))).ravel())
    return np.concatenate(tables)
