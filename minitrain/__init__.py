"""minitrain: trains small nets on a CPU, with hand-written backward passes and preallocated memory."""

from minitrain import (
    augment,
    callbacks,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    schedules,
    testing,
)
from minitrain.graph import Input
from minitrain.layer import Node
from minitrain.model import Model
from minitrain.training.learning_rate_finder import LearningRateFinder
from minitrain.training.trainer import Trainer
from minitrain.version import __version__ as __version__

__all__ = [
    "Input",
    "LearningRateFinder",
    "Model",
    "Node",
    "Trainer",
    "augment",
    "callbacks",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "schedules",
    "testing",
]
