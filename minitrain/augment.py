"""Augmentation: pictures that are changed a little each time they are trained on, for `Trainer.fit(augment=[...])`.

What is done to a sample depends on the seed of the fit, the epoch and the index of the sample alone: not on the batch
that it is in, the number of threads or where a training was resumed. Validation and evaluation see pictures as they
are.

A class of one's own derives from `Augmentation`, says in `numbers` how many random numbers it wants for each sample,
and changes a batch in `apply`::

    @dataclass(frozen=True)
    class Brightness(Augmentation):
        most: float = 0.2
        numbers = 1

        def apply(self, x, draws):
            return x + self.most * (2 * draws[:, :1, None, None] - 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_number, expect_pair, mismatch, set_checked

__all__ = ["Augmentation", "Cutout", "Flip", "Mixup", "Rotation", "Shift"]

Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """Base of all augmentations: frozen dataclasses of settings.

    Attributes
    ----------
    numbers : int
        How many random numbers each sample gets.
    """

    numbers: ClassVar[int] = 1

    def apply(self, x: Array, draws: Draws) -> Array:
        """Return a batch, changed.

        Parameters
        ----------
        x : array (N, C, H, W), float32 or float64
            May be written.
        draws : array (N, numbers), float64
            Random numbers, uniform in [0, 1), of each sample.
        """
        raise TypeError(f"{type(self).__name__} does not define apply")


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors pictures, each with probability `p`: left and right (`horizontal`), top and bottom (`vertical`)."""

    horizontal: bool = True
    vertical: bool = False
    p: float = 0.5
    numbers: ClassVar[int] = 2

    def __post_init__(self) -> None:
        horizontal = expect_boolean("horizontal", self.horizontal)
        set_checked(self, horizontal=horizontal, vertical=expect_boolean("vertical", self.vertical))
        set_checked(self, p=expect_number("p", self.p, 0.0, 1.0))
        if not (self.horizontal or self.vertical):
            raise ValueError("Flip: expected horizontal or vertical, got neither")

    def apply(self, x: Array, draws: Draws) -> Array:
        for axis, wanted, draw in ((3, self.horizontal, draws[:, 0]), (2, self.vertical, draws[:, 1])):
            if wanted:
                chosen = draw < self.p
                x[chosen] = np.flip(x[chosen], axis)
        return x


@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves pictures by whole pixels, up to so many (rows, columns) each way; `fill` comes in from the edge."""

    pixels: int | tuple[int, int] = 2
    fill: float = 0.0
    numbers: ClassVar[int] = 2

    def __post_init__(self) -> None:
        set_checked(self, pixels=expect_pair("pixels", self.pixels, 0), fill=expect_number("fill", self.fill))

    def apply(self, x: Array, draws: Draws) -> Array:
        assert isinstance(self.pixels, tuple)
        rows, columns = self.pixels
        down = np.floor(draws[:, 0] * (2 * rows + 1)).astype(np.int64) - rows
        right = np.floor(draws[:, 1] * (2 * columns + 1)).astype(np.int64) - columns
        samples, _, height, width = x.shape
        y_from = np.arange(height) - down[:, None]
        x_from = np.arange(width) - right[:, None]
        n = np.arange(samples)[:, None, None]
        moved = x.transpose(0, 2, 3, 1)[n, y_from.clip(0, height - 1)[:, :, None], x_from.clip(0, width - 1)[:, None]]
        outside = ((y_from < 0) | (y_from >= height))[:, :, None] | ((x_from < 0) | (x_from >= width))[:, None]
        moved[outside] = self.fill
        return np.asarray(moved.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Turns pictures about their centre by up to so many degrees each way; between pixels it is bilinear.

    `fill` is what there is beyond the edge.
    """

    degrees: float = 10.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        set_checked(self, degrees=expect_number("degrees", self.degrees, 0.0, 180.0))
        set_checked(self, fill=expect_number("fill", self.fill))

    def apply(self, x: Array, draws: Draws) -> Array:
        angles = math.radians(self.degrees) * (2.0 * draws[:, 0] - 1.0)
        cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
        _, _, height, width = x.shape
        down = (np.arange(height) - (height - 1) / 2)[None, :, None]
        right = (np.arange(width) - (width - 1) / 2)[None, None, :]
        y_from = cosine * down + sine * right + (height - 1) / 2
        x_from = cosine * right - sine * down + (width - 1) / 2
        return _bilinear(x, y_from, x_from, self.fill)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Covers a square of `size` pixels, centred on any pixel, with `fill` (DeVries & Taylor 2017, arXiv:1708.04552)."""

    size: int = 8
    fill: float = 0.0
    numbers: ClassVar[int] = 2

    def __post_init__(self) -> None:
        set_checked(self, size=expect_integer("size", self.size, 1), fill=expect_number("fill", self.fill))

    def apply(self, x: Array, draws: Draws) -> Array:
        _, _, height, width = x.shape
        top = np.floor(draws[:, :1] * height) - self.size // 2
        left = np.floor(draws[:, 1:] * width) - self.size // 2
        rows, columns = np.arange(height), np.arange(width)
        in_rows = (rows >= top) & (rows < top + self.size)
        in_columns = (columns >= left) & (columns < left + self.size)
        covered = in_rows[:, None, :, None] & in_columns[:, None, None, :]
        return np.where(covered, x.dtype.type(self.fill), x)


@dataclass(frozen=True)
class Mixup(Augmentation):
    """Mixes each sample and its target with another one's (Zhang et al. 2018, arXiv:1710.09412).

    The share of the sample itself is max(b, 1 - b) for b from the distribution Beta(alpha, alpha), so that it is the
    larger one; classes become probabilities. The other one is any of the training set; where that comes in batches,
    of the batch. Samples may have any shape.
    """

    alpha: float = 0.2
    numbers: ClassVar[int] = 2

    def __post_init__(self) -> None:
        set_checked(self, alpha=expect_number("alpha", self.alpha, 0.0, open_low=True))

    def partners(self, draws: Draws, count: int) -> npt.NDArray[np.intp]:
        """Return for each sample which of `count` it is mixed with."""
        return np.minimum(np.floor(draws[:, 0] * count), count - 1).astype(np.intp)

    def shares(self, draws: Draws) -> Draws:
        """Return the share of each sample itself, from 1/2 to 1."""
        from scipy.special import betaincinv

        shares = np.asarray(betaincinv(self.alpha, self.alpha, draws[:, 1]))
        return np.asarray(np.maximum(shares, 1.0 - shares), np.float64)


def check_pictures(augmentations: list[Augmentation], shapes: list[tuple[Any, ...]]) -> None:
    """Raise ValueError unless there is an input (C, H, W) for those that change pictures."""
    pictures = [each for each in augmentations if not isinstance(each, Mixup)]
    if pictures and not any(len(shape) == 3 for shape in shapes):
        got = ", ".join(map(str, shapes))
        name = type(pictures[0]).__name__
        raise ValueError(mismatch("augment", f"an input of pictures (C, H, W) for {name}", f"inputs of shape {got}"))


def _bilinear(x: Array, rows: Draws, columns: Draws, fill: float) -> Array:
    """Return pictures (N, C, H, W) at fractional places (N, H, W), with `fill` around them."""
    samples, _, height, width = x.shape
    n = np.arange(samples)[:, None, None]
    pixels = x.transpose(0, 2, 3, 1)
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    below, right = (rows - top)[..., None], (columns - left)[..., None]
    total = np.zeros((*rows.shape, x.shape[1]))
    for i, share_down in ((0, 1.0 - below), (1, below)):
        for j, share_right in ((0, 1.0 - right), (1, right)):
            r, c = top + i, left + j
            values = pixels[n, r.clip(0, height - 1), c.clip(0, width - 1)].astype(np.float64)
            values[(r < 0) | (r >= height) | (c < 0) | (c >= width)] = fill
            total += share_down * share_right * values
    return np.ascontiguousarray(total.transpose(0, 3, 1, 2), x.dtype)
