"""The experiments of the job: a file each, and one entry here."""

from typing import Any

from minitrain.experiments.experiment import Experiment
from minitrain.experiments.stability.studies.depth import DEPTH
from minitrain.experiments.stability.studies.initialization import INITIALIZATION
from minitrain.experiments.stability.studies.ioffe_szegedy import IOFFE_SZEGEDY
from minitrain.experiments.stability.studies.learning_rate import LEARNING_RATE
from minitrain.experiments.stability.studies.other_norms import OTHER_NORMS

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: tuple[Experiment[Any, Any], ...] = (DEPTH, LEARNING_RATE, INITIALIZATION, IOFFE_SZEGEDY, OTHER_NORMS)
