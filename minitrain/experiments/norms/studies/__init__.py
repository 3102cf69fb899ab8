"""The experiments of the job: a file each, and one entry here."""

from typing import Any

from minitrain.experiments.experiment import Experiment
from minitrain.experiments.norms.studies.adaptation import ADAPTATION
from minitrain.experiments.norms.studies.averages import AVERAGES
from minitrain.experiments.norms.studies.batch_size import BATCH_SIZE
from minitrain.experiments.norms.studies.few_classes import FEW_CLASSES
from minitrain.experiments.norms.studies.ghosts import GHOSTS
from minitrain.experiments.norms.studies.precise import PRECISE
from minitrain.experiments.norms.studies.ranks import RANKS

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: tuple[Experiment[Any, Any], ...] = (
    BATCH_SIZE,
    FEW_CLASSES,
    GHOSTS,
    RANKS,
    PRECISE,
    AVERAGES,
    ADAPTATION,
)
