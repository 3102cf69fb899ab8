"""One update of a model: what a learner holds, and what it does with one batch, or with a data set it only measures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.optimizers import Optimizer, all_finite
from minitrain.training.ahead import offered_step
from minitrain.training.batches import Metric, Samples, Tally, named_metrics, ranges
from minitrain.training.diagnosis import NonFiniteLossError, explain
from minitrain.training.history import History
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer

__all__ = ["Batch", "Learner"]

Batch = Array | Sequence[Array]


class Learner:
    """A model, a loss and an optimizer that make steps: what callbacks and checkpoints know of a `Trainer`.

    Parameters
    ----------
    model : Model
    loss : Loss
    optimizer : Optimizer
    metrics : mapping of name to callable, or sequence of callables, optional
    compile_processes : int, optional
        See `Trainer`, which has the attributes, too.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        metrics: Mapping[str, Metric] | Iterable[Metric] | None = None,
        *,
        compile_processes: int | None = None,
    ) -> None:
        for name, given, expected in (
            ("model", model, Model),
            ("loss", loss, Loss),
            ("optimizer", optimizer, Optimizer),
        ):
            if not isinstance(given, expected):
                raise TypeError(f"{name}: expected a {expected.__name__}, got {given!r}")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = named_metrics(loss, metrics)
        optimizer.check(model.parameter_runs)
        self.slots = optimizer.slots(model.flat_params)
        self.steps = 0
        self.epoch = 0
        self.history: History | None = None
        self.stop_requested = False
        self._compile_processes = (
            None if compile_processes is None else expect_integer("compile_processes", compile_processes, 0)
        )
        self._state_before = np.empty_like(model.flat_state)
        self._seen_batches: set[int] = set()

    # -------------------------------------------------------------------------------------------------- single steps

    def step(self, xb: Batch, yb: npt.ArrayLike) -> float:
        """Update the parameters once.

        Parameters
        ----------
        xb : array of shape (N, *input shape), or a sequence of arrays for several inputs
        yb : array
            N targets as the loss takes them.

        Returns
        -------
        float
            Mean loss of the batch before the update.

        Raises
        ------
        NonFiniteLossError
            The loss or a gradient is not finite; names the first layer where that shows.
        ValueError
            Shapes that do not fit.
        """
        plan = self._load(xb)
        return self.learn(plan, self._batch_targets(yb, plan), lambda: xb)

    def gradients(self, xb: Batch, yb: npt.ArrayLike) -> tuple[float, dict[str, Array]]:
        """Return the mean loss of a batch and copies of all gradients by parameter name.

        Neither parameters nor state change, so that calls can be repeated. Penalties and clipping belong to the
        optimizer and are not in them. Values that are not finite are returned as they are.
        """
        plan = self._load(xb)
        targets = self._batch_targets(yb, plan)
        with self._state_kept():
            plan.forward()
            loss = self.loss(plan.output, targets, plan.output_gradient)
            plan.backward()
        return loss, {name: gradient.copy() for name, gradient in self.model.gradients.items()}

    def learn(self, plan: Plan, targets: Array, batch: Callable[[], Batch], tally: Tally | None = None) -> float:
        """Update once on what a training plan has in its inputs, without checks: what `step` and `fit` run.

        `batch()` gives those inputs again to look for the cause of a loss that is not finite; `tally` takes the
        loss and the metrics.
        """
        if plan.batch not in self._seen_batches:
            self._seen_batches.add(plan.batch)
            processes = self._compile_processes
            with offered_step(self.model, plan.batch, self.loss, self.optimizer, targets, processes):
                return self.learn(plan, targets, batch, tally)
        loss = self._forward_and_backward(plan, targets, tally)
        model = self.model
        if not (math.isfinite(loss) and all_finite(model.flat_gradients, model.parameter_runs.trained)):
            self._restore_state()
            rate = self.optimizer.learning_rate_at(self.steps)
            raise NonFiniteLossError(explain(self.model, self.steps, loss, batch(), rate))
        self.optimizer.update(model.flat_params, model.flat_gradients, self.slots, self.steps, model.parameter_runs)
        self.steps += 1
        return loss

    def _forward_and_backward(self, plan: Plan, targets: Array, tally: Tally | None) -> float:
        np.copyto(self._state_before, self.model.flat_state)
        try:
            plan.forward()
            loss = self.loss(plan.output, targets, plan.output_gradient)
            if math.isfinite(loss):
                if tally is not None:  # before backward, which may overwrite the output
                    tally.add(loss, plan.output, targets)
                plan.backward()
        except BaseException:  # also Ctrl-C: half a step leaves no trace
            self._restore_state()
            raise
        return loss

    @contextlib.contextmanager
    def _state_kept(self) -> Iterator[None]:
        np.copyto(self._state_before, self.model.flat_state)
        try:
            yield
        finally:
            self._restore_state()

    def _restore_state(self) -> None:
        np.copyto(self.model.flat_state, self._state_before)

    def _load(self, xb: Batch) -> Plan:
        arrays = self.model.check_inputs(xb)
        if not len(arrays[0]):
            raise ValueError("x: expected at least one sample, got none")
        plan = self.model.training_plan(len(arrays[0]))
        plan.load(arrays)
        return plan

    def _batch_targets(self, yb: npt.ArrayLike, plan: Plan) -> Array:
        return self.loss.targets(yb, plan.output.shape)

    # ---------------------------------------------------------------------------------------------------- whole sets

    def evaluate(self, x: Batch, y: npt.ArrayLike, batch_size: int = 256) -> dict[str, float]:
        """Return the mean loss and metrics of the trained net over a data set.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        y : array
            Targets as the loss takes them.
        batch_size : int
            Samples computed at a time: bounds the memory. Means are weighted by it, so that it changes only rounding.

        Returns
        -------
        dict
            "loss" and the names of the metrics, such as "accuracy".
        """
        return self.evaluate_samples(Samples(self.model, self.loss, x, y), batch_size)

    def evaluate_samples(self, samples: Samples, batch_size: int = 256) -> dict[str, float]:
        """Do what `evaluate` does on data that were checked before."""
        tally = Tally(self.metrics)
        for start, stop in ranges(len(samples), batch_size):
            plan = self.model.inference_plan(stop - start)
            plan.load([each[start:stop] for each in samples.inputs])
            plan.forward()
            targets = samples.targets[start:stop]
            tally.add(self.loss(plan.output, targets), plan.output, targets)
        return tally.means()

    def stop(self) -> None:
        """End the running `Trainer.fit` after this epoch; for callbacks."""
        self.stop_requested = True
