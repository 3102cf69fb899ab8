"""Stochastic gradient descent."""

from dataclasses import dataclass

from minitrain.kernels import optimizers as kernels
from minitrain.optimizers.cut import Cut
from minitrain.optimizers.optimizer import Clipping, Optimizer, expect_share
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, set_checked

__all__ = ["SGD"]


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
        set_checked(
            self,
            momentum=expect_share("momentum", self.momentum),
            nesterov=expect_boolean("nesterov", self.nesterov),
        )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: expected a momentum > 0, got 0")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _apply(
        self, params: Array, grads: Array, cut: Cut, clipping: Clipping, slots: dict[str, Array], step: int
    ) -> None:
        rate = self.learning_rate_at(step)
        if self.momentum:
            run = kernels.sgd_momentum.for_work(cut.elements)
            pieces, settings, velocity = cut.pieces, cut.settings, slots["velocity"]
            run(grads, pieces, settings, clipping, rate, self.momentum, self.nesterov, params, velocity)
        else:
            kernels.sgd.for_work(cut.elements)(grads, cut.pieces, cut.settings, clipping, rate, params)
