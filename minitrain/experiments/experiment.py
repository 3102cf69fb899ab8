"""What an experiment is, and a job: experiments that share a command and a page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from minitrain.experiments.data import Data, DataSummary
from minitrain.experiments.record import Record
from minitrain.experiments.watch import Watch

__all__ = ["Experiment", "ExperimentSettings", "Figure", "Job", "PageText", "Row", "Settings"]

Row = tuple[str, ...]  # of the summary: what was measured, then a cell for each kind of net that is compared


@dataclass(frozen=True)
class ExperimentSettings(Record, ABC):
    """Base of the settings of an experiment."""

    @abstractmethod
    def work(self) -> float:
        """Return layers times steps of all runs, by which the time left is told."""


S = TypeVar("S", bound=ExperimentSettings)
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Figure(Generic[R]):
    """A figure and the section of the page around it."""

    name: str  # of its file, without ".png"
    heading: str
    caption: str  # what its parts are
    draw: Callable[[R, DataSummary], Any]  # gives a figure of matplotlib
    say: Callable[[R], str]  # sentences made from the numbers, so that text and numbers cannot part


@dataclass(frozen=True)
class Experiment(Generic[S, R]):
    """One question, asked of nets in several settings: all that results, figures, summary and page say of it.

    Naming it in the list of a job is all there is to do besides.
    """

    name: str  # key of its settings and results
    title: str  # what the progress says
    full: S
    quick: S  # fewer runs and steps
    run: Callable[[Data, S, int, Watch], R]  # data, settings, seed, watch
    result: type[R]
    figures: tuple[Figure[R], ...]
    rows: Callable[[R], list[Row]]  # of the summary
    choices: Callable[[S], list[str]]  # what was chosen where there was a choice, and why: a paragraph each


@dataclass(frozen=True)
class PageText:
    """What a job's page says whatever the numbers are."""

    title: str
    short_title: str  # of the window
    compared: str  # begins the first sentence: "Nets with and without ..."
    summary_title: str
    headings: Row  # of the summary's columns
    colors: tuple[str | None, ...]  # of the same columns on a terminal
    first_choices: tuple[str, ...]  # before those of the experiments
    last_choices: tuple[str, ...]
    sources: tuple[str, ...]
    explains_outcomes: bool = True  # whether runs are called by the words of `training.OUTCOMES`


@dataclass(frozen=True)
class Settings:
    """The settings of all experiments of a job."""

    name: str
    of: dict[str, ExperimentSettings]  # by the experiment's name

    def to_json(self) -> dict[str, Any]:
        """Return what results.json holds."""
        return {"name": self.name, **{name: each.to_json() for name, each in self.of.items()}}


@dataclass(frozen=True)
class Job:
    """Experiments that one command runs and one page shows."""

    command: str  # minitrain <command>
    text: PageText
    experiments: tuple[Experiment[Any, Any], ...]

    def settings(self, quick: bool) -> Settings:
        """Return the settings with all runs, or with fewer."""
        each = {experiment.name: experiment.quick if quick else experiment.full for experiment in self.experiments}
        return Settings("quick" if quick else "full", each)

    def finished(self, results: dict[str, Any]) -> Iterator[tuple[Experiment[Any, Any], Any]]:
        """Yield the experiments that have a result by now, with it."""
        for experiment in self.experiments:
            if experiment.name in results:
                yield experiment, results[experiment.name]
