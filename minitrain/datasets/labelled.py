"""A data set that was read from a person's own files."""

from __future__ import annotations

from typing import Any

from nbnorm.jit.arrays import Array

__all__ = ["Labelled"]


class Labelled(tuple[Array, Array]):
    """A pair (x, y) that knows what its columns or classes are called: `trainer.fit(*data)`.

    Attributes
    ----------
    x, y : arrays
    classes : tuple of str
        The names of the classes, in the order of their labels; empty where `y` are numbers.
    columns : tuple of str
        The names of the columns of `x`; empty where these are pictures.
    """

    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __new__(cls, x: Array, y: Array, classes: tuple[str, ...] = (), columns: tuple[str, ...] = ()) -> Labelled:
        pair = super().__new__(cls, (x, y))
        pair.classes, pair.columns = classes, columns
        return pair

    def __reduce__(self) -> tuple[Any, ...]:
        return Labelled, (self.x, self.y, self.classes, self.columns)

    def __repr__(self) -> str:
        named = f", classes {', '.join(self.classes)}" if self.classes else ""
        return f"<Labelled x {self.x.shape} {self.x.dtype}, y {self.y.shape} {self.y.dtype}{named}>"

    @property
    def x(self) -> Array:
        return self[0]

    @property
    def y(self) -> Array:
        return self[1]
