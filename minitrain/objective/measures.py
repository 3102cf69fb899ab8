"""What is measured of each batch: losses and metrics under names of which no two are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minitrain.metrics import F1, BinaryAccuracy, RocAuc, TopK, accuracy, accuracy_of, top_k_accuracy
from minitrain.objective.lending import as_number, lent
from minitrain.objective.objective import Objective, Term
from minitrain.objective.whole_set import Gathered, is_over_whole_set
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean

__all__ = ["Metric", "Metrics", "Tally", "directions", "metrics_by_name"]

Metric = Callable[[Array, Array], float]
Metrics = Mapping[str, Any] | Iterable[Metric] | Metric | None

# Names that a history, or a table of it, has beside what is measured.
RESERVED = ("epoch", "learning_rate", "seconds", "images_per_second")
# Of ours, what keeps nothing of what it is called with, and writes nothing into it.
FUNCTIONS, CLASSES = (accuracy, top_k_accuracy), (BinaryAccuracy, TopK, RocAuc, F1)


class Tally:
    """Losses and metrics summed over batches, each weighted by its number of samples.

    Metrics that are no means (`over_whole_set = True`) are measured once, on copies of all outputs and targets.

    Parameters
    ----------
    objective : Objective
    metrics : dict
        As `metrics_by_name` returns them.
    """

    def __init__(self, objective: Objective, metrics: Mapping[str, Any]) -> None:
        self._losses = objective.names
        measures = _measures(objective, metrics)
        self._measures = [each for each in measures if not is_over_whole_set(each.metric)]
        self._whole = [(each, Gathered(each.name, each.metric)) for each in measures if is_over_whole_set(each.metric)]
        self._names = _reported(objective, metrics)
        gathered = [each.name for each, _ in self._whole]
        self._sums = dict.fromkeys((name for name in self._names if name not in gathered), 0.0)
        self.samples = 0

    def add(
        self,
        losses: Sequence[float],
        outputs: Mapping[str, Array],
        targets: Sequence[Array],
        weights: Sequence[Array] | None = None,
    ) -> None:
        """Take one batch: its mean losses, and what the metrics are measured on; weights are for `WeightedTally`."""
        count = len(targets[0])
        self.samples += count
        sums = self._sums
        for name, loss in zip(self._losses, losses, strict=True):
            sums[name] += count * loss
        copies: dict[str, tuple[Array, Array]] = {}
        for name, metric, output, index, is_ours in self._measures:
            given = outputs[output], targets[index]
            if not is_ours:
                if output not in copies:
                    copies[output] = lent(given[0]), lent(given[1])
                given = copies[output]
            sums[name] += count * as_number(f"metric {name}", metric(*given))
        for measure, gathered in self._whole:
            gathered.add(outputs[measure.output], targets[measure.targets])

    def values(self) -> dict[str, float]:
        """Return the means so far and what is measured on all samples, NaN before the first batch."""
        measured = self.means() | {each.name: gathered.value() for each, gathered in self._whole}
        return {name: measured[name] for name in self._names}

    def state(self) -> dict[str, Any]:
        """Return the sums so far, for a training that goes on in the middle of an epoch."""
        gathered = {each.name: gathered.arrays() for each, gathered in self._whole}
        return {"samples": self.samples, "sums": dict(self._sums), "gathered": gathered}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; ValueError where that measured something else."""
        whole = {each.name: gathered for each, gathered in self._whole}
        if state["sums"].keys() != self._sums.keys() or state["gathered"].keys() != whole.keys():
            raise ValueError(
                f"metrics: expected those of the epoch that is to go on ({', '.join(state['sums'])}), got "
                f"{', '.join(self._names)}"
            )
        self.samples = int(state["samples"])
        self._sums.update({name: float(total) for name, total in state["sums"].items()})
        for name, arrays in state["gathered"].items():
            if arrays:
                whole[name].restore(arrays["outputs"], arrays["targets"])

    def means(self) -> dict[str, float]:
        """Return the means so far, NaN before the first batch, without what is measured on all samples."""
        return {name: total / self.samples if self.samples else float("nan") for name, total in self._sums.items()}


def directions(objective: Objective, metrics: Mapping[str, Any]) -> dict[str, bool | None]:
    """Return the names of all that is measured, and whether larger is better; None where a metric does not say it."""
    losses: dict[str, bool | None] = dict.fromkeys(objective.names, False)
    return losses | {each.name: _direction(each) for each in _measures(objective, metrics)}


def _direction(measure: _Measure) -> bool | None:
    larger = getattr(measure.metric, "larger_is_better", None)
    return None if larger is None else expect_boolean(f"larger_is_better of the metric {measure.name}", larger)


class _Measure(NamedTuple):
    name: str  #: as it is reported: "accuracy", or "class_accuracy" where outputs have names
    metric: Metric
    output: str
    targets: int  #: which of the targets it is called with
    is_ours: bool


def metrics_by_name(objective: Objective, metrics: Metrics) -> dict[str, Any]:
    """Return metrics by their names; where losses come by output, a dictionary of such for each output.

    Raises
    ------
    TypeError, ValueError
        What is no metric, an output that has no loss, or two values of one name.
    """
    if not objective.is_named:
        named: dict[str, Any] = _named(metrics, objective.terms[0], "metrics")
    else:
        given = _by_output(objective, metrics)
        named = {
            term.output: _named(given.get(term.output), term, f"metrics[{term.output!r}]")
            for term in objective.terms
            if metrics is None or term.output in given
        }
    _reported(objective, named)
    return named


def _measures(objective: Objective, metrics: Mapping[str, Any]) -> list[_Measure]:
    measures = []
    for index, term in enumerate(objective.terms):
        named = metrics.get(term.output, {}) if objective.is_named else metrics
        prefix = f"{term.output}_" if objective.is_named else ""
        for name, metric in named.items():
            is_ours = any(metric is each for each in FUNCTIONS) or type(metric) in CLASSES
            measures.append(_Measure(prefix + name, metric, term.output, index, is_ours))
    return measures


def _reported(objective: Objective, metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of all that is measured; ValueError where two would be the same, validation included."""
    names = [*objective.names, *(each.name for each in _measures(objective, metrics))]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"metrics: two values would be reported as {name!r}; give one of them another name")
        if name in RESERVED or name.startswith("val_"):
            what = "is the name of a column of its own" if name in RESERVED else "is what validation reports"
            raise ValueError(f"metrics: {name!r} {what}; give the metric or the output another name")
    return names


def _by_output(objective: Objective, metrics: Metrics) -> dict[str, Any]:
    outputs = [term.output for term in objective.terms]
    if metrics is None:
        return {}
    form = f"metrics by the outputs that have a loss, such as metrics={{{outputs[0]!r}: [...]}}"
    if not isinstance(metrics, Mapping):
        given = [metrics] if callable(metrics) else list(metrics)
        if given:
            raise TypeError(f"metrics: expected {form}, got {given!r}")
        return {}
    for name in metrics:
        if name not in outputs:
            raise ValueError(f"metrics: expected {form}, for {', '.join(outputs)}; got {name!r}")
    return dict(metrics)


def _named(metrics: Any, term: Term, argument: str) -> dict[str, Metric]:
    """Return metrics of one output by their names: those given, or the accuracy where the loss is one of classes."""
    if metrics is None:
        default = accuracy_of(term.loss)
        return {} if default is None else {"accuracy": default}
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        several = [metrics] if callable(metrics) or isinstance(metrics, str) else list(metrics)
        pairs = [(getattr(metric, "__name__", type(metric).__name__), metric) for metric in several]
    named: dict[str, Metric] = {}
    for name, metric in pairs:
        if not callable(metric) or isinstance(metric, type) or name == "loss":
            raise TypeError(f"{argument}: expected callables under names other than 'loss', got {name!r}: {metric!r}")
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument}: expected names that are strings and not empty, got {name!r}")
        if name in named:
            raise ValueError(
                f"{argument}: expected a name of its own for each, got {name!r} twice; give them by name: "
                f"{argument}={{'first': ..., 'second': ...}}"
            )
        named[name] = metric
    return named
