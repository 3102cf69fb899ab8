"""Numbers by globs of parameter names: penalties and factors of the learning rate that differ between parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from nbnorm.jit.checks import expect_number, mismatch

__all__ = ["Globs", "expect_globs", "expect_penalty"]


@dataclass(frozen=True, eq=False, repr=False)
class Globs(Mapping[str, float]):
    """Globs and their numbers: an ordered mapping that does not change. The last glob that matches counts."""

    pairs: tuple[tuple[str, float], ...]

    def number_for(self, name: str, otherwise: float) -> float:
        """Return the number of the last glob that matches a parameter's name, or else `otherwise`."""
        return next((number for glob, number in reversed(self.pairs) if name and fnmatchcase(name, glob)), otherwise)

    def check(self, setting: str, names: Sequence[str]) -> None:
        """Raise ValueError if a glob matches none of the names of all parameters."""
        for glob in self:
            if not any(fnmatchcase(name, glob) for name in names):
                expected = f"globs of parameters ({', '.join(names) or 'none has a name'})"
                raise ValueError(mismatch(setting, expected, f"{glob!r}, which matches none of them"))

    def __getitem__(self, glob: str) -> float:
        return dict(self.pairs)[glob]

    def __iter__(self) -> Iterator[str]:
        return (glob for glob, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.pairs == tuple(other.items())  # another order says other things

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return repr(dict(self.pairs))


def expect_globs(setting: str, value: Any) -> Globs:
    """Return a mapping of globs to finite numbers >= 0 as one that does not change."""
    if not isinstance(value, Mapping):
        raise TypeError(mismatch(setting, "a mapping of globs of parameter names to numbers", repr(value)))
    for glob in value:
        if not isinstance(glob, str):
            raise TypeError(mismatch(setting, "globs of parameter names such as 'conv*.weight'", repr(glob)))
    return Globs(tuple((glob, expect_number(f"{setting}[{glob!r}]", each, 0.0)) for glob, each in value.items()))


def expect_penalty(setting: str, value: Any) -> float | Globs:
    """Return a finite number >= 0, for all penalized parameters, or such numbers by glob."""
    return expect_globs(setting, value) if isinstance(value, Mapping) else expect_number(setting, value, 0.0)
