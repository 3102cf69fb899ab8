"""Functions in place of the methods of a callback."""

from __future__ import annotations

from collections.abc import Callable

from minitrain.training.callback import Callback

__all__ = ["LambdaCallback"]

EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Functions in place of methods: `LambdaCallback(on_epoch_end=lambda trainer, epoch, values: print(values))`."""

    def __init__(self, **functions: Callable[..., object]) -> None:
        for name, function in functions.items():
            if name not in EVENTS:
                raise TypeError(f"{name}: expected one of {', '.join(EVENTS)}")
            if not callable(function):
                raise TypeError(f"{name}: expected a callable, got {function!r}")
            setattr(self, name, function)

    def __repr__(self) -> str:
        return f"LambdaCallback({', '.join(f'{name}={each!r}' for name, each in vars(self).items())})"
