"""Arrays for what a schedule asks for: views of an arena, the model's own, and what a plan keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minitrain.compile.memory import ALIGNMENT, Lifetime, place
from minitrain.compile.requests import Request, Schedule, Step
from minitrain.layer import Tensors
from nbnorm.jit.arrays import Array

__all__ = ["Arrays", "Binding", "ModelArrays", "new_arena"]

Arrays = Mapping[str, Array]


def new_arena(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes that begin at a multiple of the alignment."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


@dataclass(frozen=True)
class ModelArrays:
    """What belongs to the model. Without `gradients` a plan is for inference; `derived` is by node."""

    params: Arrays
    state: Arrays
    gradients: Arrays | None
    derived: Mapping[str, Arrays]


class Binding:
    """The arrays of one plan.

    Attributes
    ----------
    size : int
        Bytes of the arena.
    carried : list of array
        What the layers bound so far carry from call to call.
    """

    def __init__(
        self,
        schedule: Schedule,
        dtype: np.dtype,
        arena: Callable[[int], npt.NDArray[np.uint8]],
        share_memory: bool,
    ) -> None:
        self.dtype = dtype
        self.carried: list[Array] = []
        owners = schedule.owners()
        lifetimes = [request.lifetime() for request in owners]
        if not share_memory:
            end = max(each.last for each in lifetimes)
            lifetimes = [Lifetime(each.size, 0, end) for each in lifetimes]
        offsets, self.size = place(lifetimes)
        memory = arena(self.size)
        self._arrays: dict[int, Array] = {}
        for request, lifetime, offset in zip(owners, lifetimes, offsets, strict=True):
            block = memory[offset : offset + lifetime.size]
            self._arrays[id(request)] = block.view(request.dtype).reshape(request.shape)

    def __getitem__(self, request: Request) -> Array:
        if request.view_of is not None:
            return self[request.view_of].reshape(request.shape)
        return self._arrays[id(request)]

    def tensors(self, step: Step, model: ModelArrays) -> Tensors:
        """Return the arrays of one layer."""
        declaration, variable = step.declaration, step.node.variable
        ys = tuple(self[output] for output in step.outputs.values())
        bound: dict[str, Array | None] = dict(zip(step.outputs, ys, strict=True))
        bound |= {name: self[request] for name, request in step.local.items()}
        bound |= {name: model.params[variable(name)] for name in declaration.params}
        bound |= {name: model.state[variable(name)] for name in declaration.state}
        bound |= model.derived.get(step.node.name, {})
        for name, spec in declaration.carried.items():
            carried: Array = np.zeros(spec.shape, spec.dtype or self.dtype)
            bound[name] = carried
            self.carried.append(carried)
        if model.gradients is not None:
            bound |= dict.fromkeys(f"d{name}" for name in (*declaration.outputs, *declaration.params))
            bound |= {f"d{name}": self[request] for name, request in step.gradients.items()}
            for name, request in step.dparams.items():
                bound[f"d{name}"] = model.gradients[variable(name)] if request is None else self[request]
        dxs = [None if dx is None else self[dx] for dx in step.dxs]
        dx_before = None if step.dx_before is None else self[step.dx_before]
        return Tensors([self[x] for x in step.xs], dxs or None, bound, dx_before, ys)
