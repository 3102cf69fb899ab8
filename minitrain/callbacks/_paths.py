"""Paths that callbacks write: whether that can work, and names with the epoch and values in them."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["Pattern", "check_writable"]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError, with the name, where a file could not be written; nothing is made."""
    file = Path(os.path.realpath(os.path.expanduser(path)))
    if file.is_dir():
        raise IsADirectoryError(f"path: expected a file to write, got the folder {str(path)!r}")
    if file.exists() and not file.is_file():
        raise OSError(f"path: expected a regular file or none, {str(path)!r} is something else")
    if file.exists() and not os.access(file, os.W_OK):
        raise PermissionError(f"path: {str(path)!r} cannot be written: permission denied")
    folder = next(each for each in file.parents if each.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"path: {str(path)!r} cannot be written: {str(folder)!r} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"path: {str(path)!r} cannot be written: no permission to write into {str(folder)!r}")


class Pattern:
    """A path with fields of `str.format` in it, such as "run/{epoch:03d}-{val_loss:.3f}.safetensors".

    Parameters
    ----------
    path : str or path-like
    counts : sequence of str
        Fields that are integers; all others are values of the history, floats.
    values : bool
        Whether there are values of the history to fill in.

    Raises
    ------
    ValueError
        A field that is none of these, or a format that does not fit it.
    """

    def __init__(self, path: str | os.PathLike[str], counts: Iterable[str] = ("epoch",), values: bool = True) -> None:
        self.text = os.fspath(path)
        if not isinstance(self.text, str) or not self.text:
            raise TypeError(f"path: expected a path, got {path!r}")
        self._counts = tuple(counts)
        self._takes_values = values
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ValueError(f"path: expected a pattern for str.format, got {self.text!r}: {error}") from None
        self.fields = tuple(dict.fromkeys(fields))
        for name in self.fields:
            if not name.isidentifier() or (not values and name not in self._counts):
                known = ", ".join(f"{{{each}}}" for each in self._counts)
                what = f"{known} or a value of the history such as {{val_loss}}" if values else known
                raise ValueError(
                    f"path: expected fields such as {what}, got {{{name}}} in {self.text!r}; a brace itself is written "
                    "twice"
                )
        self._format({name: 1 if name in self._counts else 0.5 for name in self.fields})

    def check(self, known: Iterable[str]) -> None:
        """Raise ValueError for a field that is none of these names of values, OSError where nothing can be written."""
        names = [*self._counts, *known]
        for name in self.fields:
            if name not in names:
                raise ValueError(f"path: expected fields of {', '.join(names)}, got {{{name}}} in {self.text!r}")
        check_writable(self._format({name: 1 if name in self._counts else 0.5 for name in self.fields}))

    def fill(self, counts: Mapping[str, int], values: Mapping[str, float]) -> str:
        """Return the path with everything filled in."""
        return self._format({**values, **counts})

    def _format(self, values: Mapping[str, float]) -> str:
        try:
            return self.text.format(**values)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"path: {self.text!r} cannot be filled in: {error}") from None
