"""The base of all optimizers: their common hyperparameters, and one step up to the rule itself."""

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np

from minitrain.optimizers.cut import Cut, Runs, Settings, cut_runs
from minitrain.optimizers.globs import expect_globs, expect_penalty
from minitrain.optimizers.gradients import gradient_norm
from minitrain.optimizers.runs import ParameterRun
from minitrain.schedules import Schedule, plain
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import FLOATS, expect_number, mismatch, set_checked

__all__ = ["Optimizer"]

Clipping = tuple[float, float]  # the factor of all gradients, and the limit of each


@dataclass(frozen=True)
class Optimizer:
    """Base class of the optimizers.

    Parameters
    ----------
    learning_rate : float or Schedule
        The rate, or a function of the step (counted from 0) that gives it.
    l1, l2 : float, or mapping of globs to floats
        Penalties `l1 * sum |w| + l2 / 2 * sum w^2`. A number is for all penalized parameters: weights, but not biases,
        gamma and beta. A mapping is for the parameters whose names its globs match, whatever they are; the others have
        no such penalty. `l2` is PyTorch's `weight_decay` of SGD, Adam and RMSprop.
    rate : mapping of globs to floats, optional
        Factors of the learning rate; 1 for parameters that no glob matches.
    clip_norm : float, optional
        Gradients are multiplied by `min(1, clip_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does.
    clip_value : float, optional
        Each gradient is clipped to [-clip_value, clip_value].

    Notes
    -----
    Globs match names such as "conv1.weight" as `fnmatch.fnmatchcase` does, capitals told from small letters: `*` any
    characters, dots too, `?` one, `[ab]` one of these. **Where several match, the last one in the mapping counts**:
    general globs first, exceptions after them. A trainer refuses globs that match no parameter of its model.

    Examples
    --------
    A head that learns ten times as fast and without L2, and a gamma that is drawn to zero:

    >>> from minitrain.optimizers import Adam
    >>> optimizer = Adam(1e-3, l1={"*.gamma": 1e-4}, l2={"*.weight": 5e-4, "head.*": 0.0}, rate={"head.*": 10})
    >>> optimizer.rate
    {'head.*': 10.0}
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    l1: float | Mapping[str, float] = 0.0
    l2: float | Mapping[str, float] = 0.0
    rate: Mapping[str, float] | None = None
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            set_checked(self, learning_rate=expect_number("learning_rate", self.learning_rate, 0.0))
        set_checked(self, l1=expect_penalty("l1", self.l1), l2=expect_penalty("l2", self.l2))
        if self.rate is not None:
            set_checked(self, rate=expect_globs("rate", self.rate))
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                set_checked(self, **{name: expect_number(name, getattr(self, name), 0.0, open_low=True)})

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of this step (the first is 0). ValueError if a schedule gives a bad one."""
        if not isinstance(self.learning_rate, Schedule):
            return float(self.learning_rate)
        rate = float(self.learning_rate(step))
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(mismatch("learning_rate", f"a finite number >= 0 at step {step}", rate))
        return rate

    def config(self) -> dict[str, Any]:
        """Return the class name and all hyperparameters as JSON-able values, for the record of a run.

        Given to the class as arguments they make an equal optimizer (a schedule stands there as its own `config()`).
        `rate` is there where it is set.
        """
        values = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        if self.rate is None:  # records look as they did before there was one
            del values["rate"]
        return {"class": type(self).__name__, **values}

    def check(self, runs: Sequence[ParameterRun]) -> None:
        """Raise ValueError if a glob of a penalty or of `rate` matches none of the parameters of a model."""
        self._settings().check(runs)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the vectors that this optimizer keeps between steps."""
        return ()

    def slots(self, parameters: Array) -> dict[str, Array]:
        """Return the optimizer's own vectors, zeroed: one like `parameters` (size,) for each of `slot_names`."""
        return {name: np.zeros_like(parameters) for name in self.slot_names}

    def update(self, params: Array, grads: Array, slots: dict[str, Array], step: int, penalized: Runs) -> None:
        """Make one step, in place.

        Parameters
        ----------
        params : array (size,), float32 or float64, C-contiguous
            All parameters, overwritten, but for those that are frozen.
        grads : array like params
            All gradients, not changed. Padding between parameters must hold zeros; frozen runs may hold anything.
        slots : dict of arrays like params
            What `slots(params)` made, overwritten like `params`.
        step : int
            The number of steps made before this one.
        penalized : ParameterRuns, or sequence of (slice, bool)
            Increasing runs of the vector, True where penalties and weight decay apply; they do not between runs.
            Globs need the names in `model.parameter_runs`. Pass the same objects at each step: that they fit, and the
            division into work, is remembered.
        """
        cut = self._cut(params, grads, slots, penalized)
        scale = 1.0
        if self.clip_norm is not None:
            scale = self.clip_norm / (gradient_norm(grads, cut.trained) + 1e-6)
            scale = 1.0 if scale > 1 else scale  # a NaN stays
        limit = math.inf if self.clip_value is None else self.clip_value
        self._apply(params, grads, cut, (scale, limit), slots, step)

    def _apply(
        self, params: Array, grads: Array, cut: Cut, clipping: Clipping, slots: dict[str, Array], step: int
    ) -> None:
        """Run the kernel of this rule."""
        raise TypeError(f"{type(self).__name__} has no update rule: use a class of minitrain.optimizers that has one")

    def _settings(self) -> Settings:
        """Return what may differ between parameters."""
        return Settings(self.l1, self.l2, 0.0, self.rate)

    def _cut(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Runs) -> Cut:
        """Return the division of the work, after checks of what is not what it was at the last step."""
        remembered: _Remembered | None = self.__dict__.get("_remembered")
        if remembered is None or not remembered.are(params, grads, slots, penalized):
            _check_vectors(params, {"grads": grads, **slots})
            if any(name not in slots for name in self.slot_names):
                raise ValueError(mismatch("slots", f"{self.slot_names} as made by slots()", tuple(slots)))
            cut = cut_runs(penalized, params.size, self._settings())
            remembered = _Remembered(params, grads, slots, penalized, cut)
            object.__setattr__(self, "_remembered", remembered)  # not a field: equal optimizers stay equal
        return remembered.cut

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_remembered"}


class _Remembered:
    """The arrays of a step, which this does not keep alive, and their division into work."""

    def __init__(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Runs, cut: Cut) -> None:
        self.params, self.grads, self.penalized = weakref.ref(params), weakref.ref(grads), penalized
        self.slots = tuple((name, weakref.ref(slot)) for name, slot in slots.items())
        self.cut = cut

    def are(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Runs) -> bool:
        """Whether these are the same objects."""
        if self.penalized is not penalized or self.params() is not params or self.grads() is not grads:
            return False
        return len(slots) == len(self.slots) and all(slots.get(name) is slot() for name, slot in self.slots)


def expect_share(name: str, value: Any) -> float:
    """Return the share of a running mean that is kept: in [0, 1)."""
    return expect_number(name, value, 0.0, 1.0, open_high=True)


def floats(*values: float) -> tuple[float, ...]:
    """Numbers as the kernels take them: all of one type, also where a user gave integers."""
    return tuple(map(float, values))


def _check_vectors(params: Array, others: dict[str, Array]) -> None:
    if params.ndim != 1 or params.dtype not in FLOATS or not params.flags.c_contiguous:
        raise ValueError(mismatch("params", "a contiguous float vector", f"{params.dtype} {params.shape}"))
    for name, array in others.items():
        if array.shape != params.shape or array.dtype != params.dtype or not array.flags.c_contiguous:
            wanted = f"a contiguous {params.dtype} vector of shape {params.shape}"
            raise ValueError(mismatch(name, wanted, f"{array.dtype} {array.shape}"))
