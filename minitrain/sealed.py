"""Objects whose attributes are those that their class names: a misspelt or a meaningless assignment is an error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["Sealed"]


class Sealed:
    """Base of objects that refuse attributes which would have no effect.

    What can be assigned are properties with a setter and the names in `assignable`. What a sealed class annotates can
    be set once, which is what its constructor does. A method can be replaced by what can be called. Names that begin
    with an underscore are the class's own business. Everything else is an AttributeError that says what to write.

    Only classes that say `sealed=True` refuse names that they do not know. A user's subclass has whatever attributes
    its author gives it; what is fixed in the base stays fixed there, too.

    Attributes
    ----------
    assignable : frozenset of str
        Attributes without a setter that may be replaced at any time.
    remedies : mapping of str to str
        What to write instead, for names that are fixed and for names that there are not.

    Examples
    --------
    >>> class Lamp(Sealed, sealed=True):
    ...     assignable = frozenset({"color"})
    ...     remedies = {"on": "call lamp.switch()"}
    >>> lamp = Lamp()
    >>> lamp.color = "red"
    >>> lamp.colour = "blue"
    Traceback (most recent call last):
        ...
    AttributeError: a Lamp has no attribute 'colour': did you mean 'color'?
    >>> lamp.on = True
    Traceback (most recent call last):
        ...
    AttributeError: a Lamp has no attribute 'on': call lamp.switch()
    """

    assignable: ClassVar[frozenset[str]] = frozenset()
    remedies: ClassVar[Mapping[str, str]] = {}

    _sealed: ClassVar[bool] = False
    _annotated: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, sealed: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._sealed = sealed
        if sealed:
            cls._annotated = cls._annotated | frozenset(inspect.get_annotations(cls))

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        if name not in cls.assignable and not name.startswith("_"):
            self._check_assignment(name, value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        cls = type(self)
        if name in cls.assignable or name in dir(cls) or name in cls._annotated:
            raise AttributeError(f"{_some(cls)} needs its {name}: it cannot be deleted")
        object.__delattr__(self, name)

    def _check_assignment(self, name: str, value: Any) -> None:
        """Raise AttributeError unless the class lets this name be set."""
        cls = type(self)
        found: Any = next((vars(each)[name] for each in cls.__mro__ if name in vars(each)), None)
        if isinstance(found, property):
            fixed = found.fset is None
        elif name in cls._annotated:
            fixed = name in self.__dict__
        elif cls._sealed and found is None:
            hint = self._remedy(name, self._suggestion(name))
            raise AttributeError(f"{_some(cls)} has no attribute {name!r}: {hint}")
        else:  # of a method, another one can take the place
            fixed = cls._sealed and not (callable(found) and callable(value))
        if fixed:
            otherwise = f"call {name}()" if callable(found) else "it is fixed when the object is made"
            raise AttributeError(f"{name} of {_some(cls)} cannot be assigned: {self._remedy(name, otherwise)}")

    def _remedy(self, name: str, otherwise: str) -> str:
        for cls in type(self).__mro__:
            if name in vars(cls).get("remedies", {}):
                return str(vars(cls)["remedies"][name])
        return otherwise

    def _suggestion(self, name: str) -> str:
        """The nearest name; else all that can be assigned."""
        cls = type(self)
        known = [each for each in {*dir(cls), *cls._annotated, *self.__dict__} if not each.startswith("_")]
        nearest = difflib.get_close_matches(name, [each for each in known if each not in SEAL], n=1)
        if nearest:
            return f"did you mean {nearest[0]!r}?"
        settable = {each for each in dir(cls) if isinstance(getattr(cls, each), property) and getattr(cls, each).fset}
        names = sorted(settable | cls.assignable)
        return f"what can be assigned is {', '.join(names)}" if names else "nothing of it can be assigned"


SEAL = ("assignable", "remedies")


def _some(cls: type) -> str:
    return f"{'an' if cls.__name__[0] in 'AEIOU' else 'a'} {cls.__name__}"
