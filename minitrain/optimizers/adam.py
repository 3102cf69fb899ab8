"""Adam, and Adam with decoupled weight decay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from minitrain.kernels import optimizers as kernels
from minitrain.optimizers.cut import Cut, Settings
from minitrain.optimizers.globs import expect_penalty
from minitrain.optimizers.optimizer import Clipping, Optimizer, expect_share, floats
from minitrain.schedules import Schedule
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_number, set_checked

__all__ = ["Adam", "AdamW"]


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
            beta1=expect_share("beta1", self.beta1),
            beta2=expect_share("beta2", self.beta2),
            eps=expect_number("eps", self.eps, 0.0),
        )

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("mean", "square")

    def _apply(
        self, params: Array, grads: Array, cut: Cut, clipping: Clipping, slots: dict[str, Array], step: int
    ) -> None:
        rate = self.learning_rate_at(step)
        rule = floats(
            rate,
            1.0 - self.beta1,
            self.beta2,
            1.0 - self.beta2,
            rate / (1.0 - self.beta1 ** (step + 1)),
            1.0 / math.sqrt(1.0 - self.beta2 ** (step + 1)),
            self.eps,
        )
        run = kernels.adam.for_work(cut.elements)
        run(grads, cut.pieces, cut.settings, clipping, rule, params, slots["mean"], slots["square"])


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: penalized parameters are first multiplied by `1 - rate * weight_decay`.

    `weight_decay` is a number or a mapping of globs to numbers, as `l1` and `l2` are; `rate` is the parameter's own.
    Loshchilov & Hutter 2019 (arXiv:1711.05101), in the form of PyTorch.
    """

    weight_decay: float | Mapping[str, float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, weight_decay=expect_penalty("weight_decay", self.weight_decay))

    def _settings(self) -> Settings:
        return super()._settings()._replace(weight_decay=self.weight_decay)
