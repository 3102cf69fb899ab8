"""Find out on a layer's first call whether it wrote what it had to.

A NaN that no computation makes is put there before the call, and looked for after it. Layers of minitrain pass the
checks of `minitrain.testing`; a user's own may not have met them, and what it leaves is another layer's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minitrain.compile.poison import is_poisoned, poison
from minitrain.layer import Layer, Tensors
from nbnorm.jit.arrays import Array

__all__ = ["Call", "check_first_call"]

Call = tuple[str, str, Callable[[Tensors], None], Tensors]  # the node, what kind of call, what runs, on what


def check_first_call(calls: list[Call], layer: Layer, written: Mapping[str, Array | None]) -> None:
    """Let the last of the calls, which is the layer's, look once at what it has to write; after that it is as it was.

    `written` maps the names under which the layer finds these arrays to them. ValueError says what was left.
    """
    if type(layer).__module__.startswith("minitrain.layers."):
        return
    index = len(calls) - 1
    name, kind, run, tensors = calls[index]
    arrays = {label: array for label, array in written.items() if array is not None}

    def run_and_look(t: Tensors) -> None:
        for array in arrays.values():
            poison(array)
        run(t)
        left = [label for label, array in arrays.items() if is_poisoned(array)]
        if left:
            raise ValueError(
                f"{name}: {type(layer).__name__}.{run.__name__} left {', '.join(left)} as it was, at least in part; "
                f"write into the array (t.{left[0]}[...] = ...), do not give the name anew"
            )
        calls[index] = name, kind, run, tensors

    calls[index] = name, kind, run_and_look, tensors
