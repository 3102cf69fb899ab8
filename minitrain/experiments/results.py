"""What a job found, with all that is needed to find it again: what results.json holds."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any, Self

import numba
import numpy as np

from minitrain.experiments.data import DataSummary
from minitrain.experiments.experiment import Job, Settings
from minitrain.experiments.record import Record
from minitrain.experiments.training import OUTCOMES

__all__ = ["Environment", "Results"]

FORMAT = 1


@dataclass(frozen=True)
class Environment(Record):
    """Where the job ran."""

    minitrain: str
    python: str
    numpy: str
    numba: str
    system: str
    cores: int | None
    threads: int

    @classmethod
    def here(cls) -> Self:
        """Return that of this process."""
        from minitrain.version import __version__

        return cls(
            minitrain=__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            numba=numba.__version__,
            system=f"{platform.system()} {platform.machine()}",
            cores=_cores(),
            threads=numba.get_num_threads(),
        )


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count()


@dataclass
class Results:
    """Settings, surroundings and the results of the experiments that are finished."""

    seed: int
    settings: Settings
    data: DataSummary
    environment: Environment
    finished: bool = False
    outcomes: dict[str, str] = field(default_factory=lambda: dict(OUTCOMES))
    seconds: dict[str, float] = field(default_factory=dict)
    experiments: dict[str, Any] = field(default_factory=dict)  # a Record each, of the experiment's own kind

    def to_json(self) -> dict[str, Any]:
        """Return what results.json holds."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "finished": self.finished,
            "settings": self.settings.to_json(),
            "data": self.data.to_json(),
            "outcomes": self.outcomes,
            "environment": self.environment.to_json(),
            "seconds": self.seconds,
            "experiments": {name: result.to_json() for name, result in self.experiments.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], job: Job) -> Self:
        """Return the results of a job from what `json.loads` gave of its results.json.

        Raises
        ------
        KeyError
            A key is missing.
        ValueError
            Another format.
        """
        if value["format"] != FORMAT:
            raise ValueError(f"format: expected {FORMAT}, got {value['format']!r}")
        settings = {each.name: type(each.full).from_json(value["settings"][each.name]) for each in job.experiments}
        finished = {each.name: each.result.from_json(found) for each, found in job.finished(value["experiments"])}
        return cls(
            seed=value["seed"],
            settings=Settings(value["settings"]["name"], settings),
            data=DataSummary.from_json(value["data"]),
            environment=Environment.from_json(value["environment"]),
            finished=value["finished"],
            outcomes=value["outcomes"],
            seconds=value["seconds"],
            experiments=finished,
        )
