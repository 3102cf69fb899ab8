"""Optimizers: frozen hyperparameters that see only arrays, with PyTorch's update rules and conventions.

The order within a step, for every optimizer: the norm of the raw gradients of all parameters gives the scale of
`clip_norm`; the scaled gradients are clipped to [-clip_value, clip_value]; the L2 and L1 penalties are added; the rule
follows the result. The gradient arrays themselves are not changed.
"""

import math
import weakref
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minitrain.kernels import optimizers as kernels
from minitrain.schedules import Schedule, plain
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import FLOATS, expect_number, mismatch, set_checked

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "all_finite", "gradient_norm"]

Penalized = Sequence[tuple[slice, bool]]

PIECE = 4096  # elements of one unit of parallel work


def gradient_norm(grads: Array) -> float:
    """Return the Euclidean norm of a flat, contiguous gradient vector, summed in float64 in a fixed order."""
    return math.sqrt(kernels.sum_of_squares.for_work(grads.size)(grads))


def all_finite(grads: Array) -> bool:
    """Return whether no element of a flat, contiguous vector is infinite or a NaN."""
    return bool(kernels.all_finite.for_work(grads.size // 4)(grads))


@dataclass(frozen=True)
class Optimizer:
    """Base class of the optimizers.

    Parameters
    ----------
    learning_rate : float or Schedule
        The rate, or a function of the step (counted from 0) that gives it.
    l1, l2 : float
        Penalties `l1 * sum |w| + l2 / 2 * sum w^2` of the penalized parameters (by default the trainer penalizes
        weights, but not biases, gamma and beta). `l2` is PyTorch's `weight_decay` of SGD, Adam and RMSprop.
    clip_norm : float, optional
        Gradients are multiplied by `min(1, clip_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does.
    clip_value : float, optional
        Each gradient is clipped to [-clip_value, clip_value].
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            set_checked(self, learning_rate=expect_number("learning_rate", self.learning_rate, 0.0))
        set_checked(self, l1=expect_number("l1", self.l1, 0.0), l2=expect_number("l2", self.l2, 0.0))
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
        """Return the class name and all hyperparameters as JSON-able values, for the record of a run."""
        return {"class": type(self).__name__, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the vectors that this optimizer keeps between steps."""
        return ()

    def slots(self, parameters: Array) -> dict[str, Array]:
        """Return the optimizer's own vectors, zeroed: one like `parameters` (size,) for each of `slot_names`."""
        return {name: np.zeros_like(parameters) for name in self.slot_names}

    def update(self, params: Array, grads: Array, slots: dict[str, Array], step: int, penalized: Penalized) -> None:
        """Make one step, in place.

        Parameters
        ----------
        params : array (size,), float32 or float64, C-contiguous
            All parameters, overwritten.
        grads : array like params
            All gradients, not changed. Padding between parameters must hold zeros.
        slots : dict of arrays like params
            What `slots(params)` made, overwritten.
        step : int
            The number of steps made before this one.
        penalized : sequence of (slice, bool)
            Increasing runs of the vector, True where penalties and weight decay apply; they do not between runs.
            Pass the same objects at each step: that they fit, and the division into work, is remembered.
        """
        pieces = self._pieces(params, grads, slots, penalized)
        scale = 1.0
        if self.clip_norm is not None:
            scale = self.clip_norm / (gradient_norm(grads) + 1e-6)
            scale = 1.0 if scale > 1 else scale  # a NaN stays
        limit = math.inf if self.clip_value is None else self.clip_value
        shaping = scale, float(limit), float(self.l1), float(self.l2)
        self._apply(params, grads, pieces, shaping, slots, step)

    def _apply(
        self, params: Array, grads: Array, pieces: Array, shaping: tuple[Any, ...], slots: dict[str, Array], step: int
    ) -> None:
        """Run the kernel of this rule."""
        raise TypeError(f"{type(self).__name__} has no update rule: use one of {', '.join(__all__)}")

    def _pieces(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Penalized) -> NDArray[np.int64]:
        """Return the units of work, after checks of what is not what it was at the last step."""
        remembered: _Remembered | None = self.__dict__.get("_remembered")
        if remembered is None or not remembered.are(params, grads, slots, penalized):
            _check_vectors(params, {"grads": grads, **slots})
            if any(name not in slots for name in self.slot_names):
                raise ValueError(mismatch("slots", f"{self.slot_names} as made by slots()", tuple(slots)))
            remembered = _Remembered(params, grads, slots, penalized)
            object.__setattr__(self, "_remembered", remembered)  # not a field: equal optimizers stay equal
        return remembered.pieces

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_remembered"}


class _Remembered:
    """The arrays of a step, which this does not keep alive, and their division into work."""

    def __init__(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Penalized) -> None:
        self.params, self.grads, self.penalized = weakref.ref(params), weakref.ref(grads), penalized
        self.slots = tuple((name, weakref.ref(slot)) for name, slot in slots.items())
        self.pieces = pieces_of(penalized, params.size)

    def are(self, params: Array, grads: Array, slots: dict[str, Array], penalized: Penalized) -> bool:
        """Whether these are the same objects."""
        if self.penalized is not penalized or self.params() is not params or self.grads() is not grads:
            return False
        return len(slots) == len(self.slots) and all(slots.get(name) is slot() for name, slot in self.slots)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: `v = momentum * v + g; w -= learning_rate * v`.

    With `nesterov`, `g + momentum * v` is followed. Sutskever et al. 2013, in the form of PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> optimizer = SGD(0.1, momentum=0.9)
    >>> params, grads = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    >>> slots = optimizer.slots(params)
    >>> optimizer.update(params, grads, slots, 0, ())
    >>> params
    array([0.95, 2.05])
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, momentum=_below_one("momentum", self.momentum), nesterov=bool(self.nesterov))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: expected a momentum > 0, got 0")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _apply(
        self, params: Array, grads: Array, pieces: Array, shaping: tuple[Any, ...], slots: dict[str, Array], step: int
    ) -> None:
        rate = self.learning_rate_at(step)
        if self.momentum:
            run = kernels.sgd_momentum.for_work(params.size)
            run(grads, pieces, shaping, rate, float(self.momentum), bool(self.nesterov), params, slots["velocity"])
        else:
            kernels.sgd.for_work(params.size)(grads, pieces, shaping, rate, params)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction. Kingma & Ba 2015 (arXiv:1412.6980), in the form of PyTorch."""

    learning_rate: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(
            self,
            beta1=_below_one("beta1", self.beta1),
            beta2=_below_one("beta2", self.beta2),
            eps=expect_number("eps", self.eps, 0.0),
        )

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("mean", "square")

    def _apply(
        self, params: Array, grads: Array, pieces: Array, shaping: tuple[Any, ...], slots: dict[str, Array], step: int
    ) -> None:
        rate = self.learning_rate_at(step)
        rule = _floats(
            1.0 - rate * self._decay(),
            1.0 - self.beta1,
            self.beta2,
            1.0 - self.beta2,
            rate / (1.0 - self.beta1 ** (step + 1)),
            1.0 / math.sqrt(1.0 - self.beta2 ** (step + 1)),
            self.eps,
        )
        kernels.adam.for_work(params.size)(grads, pieces, shaping, rule, params, slots["mean"], slots["square"])

    def _decay(self) -> float:
        return 0.0


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: penalized parameters are first multiplied by `1 - rate * weight_decay`.

    Loshchilov & Hutter 2019 (arXiv:1711.05101), in the form of PyTorch.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, weight_decay=expect_number("weight_decay", self.weight_decay, 0.0))

    def _decay(self) -> float:
        return self.weight_decay


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: gradients divided by the root of their running mean square (of their variance if `centered`).

    Tieleman & Hinton 2012; centered: Graves 2013 (arXiv:1308.0850), section 4.2; in the form of PyTorch.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(
            self,
            alpha=_below_one("alpha", self.alpha),
            eps=expect_number("eps", self.eps, 0.0),
            momentum=_below_one("momentum", self.momentum),
            centered=bool(self.centered),
        )

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("square", *(("mean",) if self.centered else ()), *(("velocity",) if self.momentum else ()))

    def _apply(
        self, params: Array, grads: Array, pieces: Array, shaping: tuple[Any, ...], slots: dict[str, Array], step: int
    ) -> None:
        rule = _floats(self.learning_rate_at(step), self.alpha, 1.0 - self.alpha, self.eps, self.momentum)
        none = nothing(params.dtype)
        mean = slots["mean"] if self.centered else none
        velocity = slots["velocity"] if self.momentum else none
        kernels.rmsprop.for_work(params.size)(grads, pieces, shaping, rule, params, slots["square"], mean, velocity)


def _below_one(name: str, value: Any) -> float:
    """Return the share of a running mean that is kept: in [0, 1)."""
    return expect_number(name, value, 0.0, 1.0, open_high=True)


def _floats(*values: float) -> tuple[float, ...]:
    """Numbers as the kernels take them: all of one type, also where a user gave integers."""
    return tuple(map(float, values))


def _check_vectors(params: Array, others: dict[str, Array]) -> None:
    if params.ndim != 1 or params.dtype not in FLOATS or not params.flags.c_contiguous:
        raise ValueError(mismatch("params", "a contiguous float vector", f"{params.dtype} {params.shape}"))
    for name, array in others.items():
        if array.shape != params.shape or array.dtype != params.dtype or not array.flags.c_contiguous:
            wanted = f"a contiguous {params.dtype} vector of shape {params.shape}"
            raise ValueError(mismatch(name, wanted, f"{array.dtype} {array.shape}"))


def pieces_of(penalized: Penalized, size: int) -> NDArray[np.int64]:
    """Return (n, 3) rows of start, stop, penalized: the whole vector in units of work of at most PIECE elements."""
    runs: list[list[int]] = []
    end = 0
    for run, applies in penalized:
        start, stop, stride = run.indices(size)
        if start < end or stop < start or stride != 1 or (run.stop is not None and run.stop > size):
            raise ValueError(mismatch("penalized", f"increasing slices within {size} elements", f"{run} after {end}"))
        for piece in ([end, start, 0], [start, stop, int(applies)]):
            if runs and runs[-1][2] == piece[2]:
                runs[-1][1] = piece[1]
            elif piece[0] < piece[1]:
                runs.append(piece)
        end = stop
    runs.append([end, size, 0])
    rows = [(i, min(i + PIECE, stop), flag) for start, stop, flag in runs for i in range(start, stop, PIECE)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
