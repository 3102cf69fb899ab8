"""RMSprop."""

from dataclasses import dataclass

from minitrain.kernels import optimizers as kernels
from minitrain.optimizers.cut import Cut
from minitrain.optimizers.optimizer import Clipping, Optimizer, expect_share, floats
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_boolean, expect_number, set_checked

__all__ = ["RMSprop"]


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
            alpha=expect_share("alpha", self.alpha),
            eps=expect_number("eps", self.eps, 0.0),
            momentum=expect_share("momentum", self.momentum),
            centered=expect_boolean("centered", self.centered),
        )

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("square", *(("mean",) if self.centered else ()), *(("velocity",) if self.momentum else ()))

    def _apply(
        self, params: Array, grads: Array, cut: Cut, clipping: Clipping, slots: dict[str, Array], step: int
    ) -> None:
        rule = floats(self.learning_rate_at(step), self.alpha, 1.0 - self.alpha, self.eps, self.momentum)
        none = nothing(params.dtype)
        mean = slots["mean"] if self.centered else none
        velocity = slots["velocity"] if self.momentum else none
        run = kernels.rmsprop.for_work(cut.elements)
        run(grads, cut.pieces, cut.settings, clipping, rule, params, slots["square"], mean, velocity)
