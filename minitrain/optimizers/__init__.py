"""Optimizers: frozen hyperparameters that see only arrays, with PyTorch's update rules and conventions.

The order within a step, for every optimizer: the norm of the raw gradients of all parameters that are trained gives
the scale of `clip_norm`; the scaled gradients are clipped to [-clip_value, clip_value]; the L2 and L1 penalties are
added; the rule follows the result. The gradient arrays themselves are not changed. A frozen parameter is left alone:
neither it nor what an optimizer keeps for it is read or written, and its gradient counts for nothing.

Penalties, weight decay and factors of the learning rate may differ from parameter to parameter, see `Optimizer`.
"""

from minitrain.optimizers.accumulated import AccumulatedGradients
from minitrain.optimizers.adam import Adam, AdamW
from minitrain.optimizers.cut import PIECE as PIECE
from minitrain.optimizers.cut import pieces_of as pieces_of
from minitrain.optimizers.gradients import all_finite, gradient_norm
from minitrain.optimizers.optimizer import Optimizer
from minitrain.optimizers.rmsprop import RMSprop
from minitrain.optimizers.runs import ParameterRun, ParameterRuns
from minitrain.optimizers.sgd import SGD

__all__ = [
    "SGD", "AccumulatedGradients", "Adam", "AdamW", "Optimizer", "ParameterRun", "ParameterRuns", "RMSprop",
    "all_finite", "gradient_norm",
]  # fmt: skip
