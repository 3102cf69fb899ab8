"""One update of a model: what a learner holds, and what it does with one batch, or with a data set it only measures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from minitrain.compile.plan import Plan
from minitrain.data.batch import Batch as DataBatch
from minitrain.data.batch import GivenBatch
from minitrain.data.samples import Samples
from minitrain.data.scale import Scale, warn_of_other_scales
from minitrain.data.stream import Stream, expect_stream
from minitrain.data.weights import expect_some
from minitrain.exclusive import Exclusive
from minitrain.layer import Shape
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.model.finite_state import finite_checks
from minitrain.model.plans import Held
from minitrain.objective.heads import check_heads
from minitrain.objective.measures import Metrics, Tally, directions, metrics_by_name
from minitrain.objective.objective import Objective
from minitrain.objective.position import CallbackState, Position
from minitrain.objective.weighted import WeightedTally, Weights
from minitrain.optimizers import AccumulatedGradients, Optimizer, all_finite
from minitrain.training.ahead import offered_step
from minitrain.training.diagnosis import Failure, NonFiniteLossError, explain
from minitrain.training.history import History
from minitrain.training.measuring import measure
from minitrain.training.ranks.group import group_of
from minitrain.training.ranks.spread import Spread
from minitrain.training.statistics.of_batches import Found, PooledMove, Pools, forward_into
from minitrain.training.trained import Trained
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer

__all__ = ["Batch", "Learner", "Losses", "Targets"]

Batch = Array | Sequence[Array]
Kept = TypeVar("Kept")
Losses = Loss | Mapping[str, Loss]
Targets = Any  # array-like, or a mapping of array-likes by output


class _Plans(dict[tuple[Shape, ...], Held]):
    """Plans by shapes, as to ask for one takes longer than a small layer; a copy is empty, as it has another model."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Plans, ()


class _OfThis(list[Kept]):
    """Nothing, or one thing that belongs to this object alone: a copy has nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _OfThis, ()


class Learner(Trained, sealed=True):
    """A model, losses and an optimizer that make steps: what callbacks and checkpoints know of a `Trainer`.

    Parameters
    ----------
    model : Model
    loss : Loss, or mapping of output name to Loss
    optimizer : Optimizer
    metrics : mapping of name to callable, or sequence of callables, optional
    loss_weights : mapping of output name to float, optional
    compile_processes : int, optional
    comm : mpi4py.MPI.Intracomm, optional
    sync_batch_norm, deterministic : bool
        See `Trainer`, which has the attributes, too.
    """

    def __init__(
        self,
        model: Model,
        loss: Losses,
        optimizer: Optimizer,
        metrics: Metrics = None,
        *,
        loss_weights: Mapping[str, float] | None = None,
        compile_processes: int | None = None,
        comm: Any = None,
        sync_batch_norm: bool = True,
        deterministic: bool = False,
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model: expected a Model, got {model!r}")
        self.objective = Objective(model, loss, loss_weights)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected a Optimizer, got {optimizer!r}")
        self.model = model
        self.loss = loss
        self.loss_weights = loss_weights
        self.optimizer = optimizer
        self.metrics = metrics_by_name(self.objective, metrics)
        check_heads(
            model.graph,
            {term.output: term.loss for term in self.objective.terms},
            self.metrics if self.objective.is_named else {self.objective.terms[0].output: self.metrics},
        )
        optimizer.check(model.parameter_runs)
        self.slots = optimizer.slots(model.flat_params)
        self.steps = 0
        self.epoch = 0
        self.stop_requested = False
        self._history: History | None = None
        self._fit = Exclusive()
        self._compile_processes = (
            None if compile_processes is None else expect_integer("compile_processes", compile_processes, 0)
        )
        self._position: Position | None = None
        self._scales: tuple[Scale, ...] = ()
        self._callback_states: _OfThis[Callable[[], list[CallbackState]]] = _OfThis()  # of the fit that runs
        self._finite_checks: _OfThis[tuple[Callable[[], bool], ...]] = _OfThis()
        self._last_batch: _OfThis[tuple[tuple[Shape, np.dtype[Any]], Held]] = _OfThis()  # its shape and dtype
        self._pools: _OfThis[Pools] = _OfThis()  # what the norms find for each batch is added to these
        self._validation: _OfThis[Samples | Stream] = _OfThis()  # of the fit that runs
        self._spread = self._spread_over(comm, sync_batch_norm, deterministic)
        self._state_before = np.empty_like(model.flat_state)  # touched by whoever holds the model's plan alone
        self._seen: set[tuple[Shape, ...]] = set()
        self._held_before = _Plans()

    def _spread_over(self, comm: Any, sync_batch_norm: bool, deterministic: bool) -> Spread | None:
        """Return what is done together with other ranks; None where there are none and the bits may be any."""
        synchronize = expect_boolean("sync_batch_norm", sync_batch_norm)
        fixed, group = expect_boolean("deterministic", deterministic), group_of(comm)
        if group.size == 1 and not fixed:
            return None
        if group.size > 1:
            self._compile_processes = 0  # all cores have a rank
        return Spread(self.model, self.objective, group, synchronize, fixed)

    @property
    def rank(self) -> int:
        """Which of the ranks of the communicator this process is; 0 where there is none."""
        return 0 if self._spread is None else self._spread.group.rank

    @property
    def spread(self) -> Spread | None:
        """What is done together with other ranks, where there are some."""
        return self._spread

    # -------------------------------------------------------------------------------------------------- single steps

    def step(self, xb: Batch, yb: Targets, sample_weight: Any = None) -> float:
        """Update the parameters once.

        Parameters
        ----------
        xb : array of shape (N, *input shape), or a sequence of arrays for several inputs
        yb : array, or mapping of output name to array
            N targets as the loss takes them, or those of each loss.
        sample_weight : array (N,), or mapping of output name to such arrays, optional
            The loss is `sum(w * losses) / sum(w)`. A sample of weight 0 is absent from losses and metrics; batch norm
            sees it still.

        Returns
        -------
        float
            Mean loss of the batch before the update; the weighted sum of several.

        Raises
        ------
        NonFiniteLossError
            The loss or a gradient is not finite; names the first layer where that shows.
        ValueError, TypeError
            Shapes that do not fit; a loss that does not write the gradient, or returns no number.
        """
        if sample_weight is not None or self._spread is not None:
            batch = GivenBatch(self.model, self.objective, xb, yb, sample_weight)
            if sample_weight is not None:
                expect_some("sample_weight", batch.amounts or [])
            return self.learn_from([batch])
        arrays, held = self._arrays_and_plan(xb)
        with held as plan:
            plan.load(arrays)
            return self.learn(plan, self._batch_targets(yb, plan), lambda: arrays)

    def gradients(self, xb: Batch, yb: Targets, sample_weight: Any = None) -> tuple[float, dict[str, Array]]:
        """Return the mean loss of a batch and copies of all gradients by parameter name.

        Neither parameters nor state change, so that calls can be repeated. Penalties and clipping belong to the
        optimizer and are not in them. Values that are not finite are returned as they are. Arguments as for `step`.
        """
        batch = GivenBatch(self.model, self.objective, xb, yb, sample_weight)
        with self.held(batch.shapes) as plan:
            targets = batch.load(plan)
            with self._state_kept():
                plan.forward()
                losses = self.objective(plan.outputs, targets, plan.output_gradients, batch.weights)
                plan.backward()
            return losses[0], {name: gradient.copy() for name, gradient in self.model.gradients.items()}

    def learn(
        self,
        plan: Plan,
        targets: tuple[Array, ...],
        batch: Callable[[], Batch],
        tally: Tally | None = None,
        weights: Weights | None = None,
    ) -> float:
        """Update once on what a training plan that is held has in its inputs: what `step` and `fit` run.

        `batch()` gives those inputs again to look for the cause of a loss that is not finite; `tally` takes the
        losses and the metrics.
        """
        if plan.key not in self._seen:
            self._seen.add(plan.key)
            processes = self._compile_processes
            with offered_step(self.model, plan.key, self.objective, self.optimizer, targets, processes):
                return self.learn(plan, targets, batch, tally, weights)
        model = self.model
        np.copyto(self._state_before, model.flat_state)
        try:
            if self._pools:
                forward_into(plan, self._pools)
            else:
                plan.forward()
            losses = self.objective(plan.outputs, targets, plan.output_gradients, weights)
            loss = losses[0]
            finite = math.isfinite(loss)
            if finite:
                if tally is not None:  # before backward, which may overwrite the outputs
                    tally.add(losses, plan.outputs, targets, weights)
                plan.backward()
                finite = all_finite(model.flat_gradients, model.parameter_runs.trained) and self._state_is_finite()
            if not finite:
                raise self._not_finite(losses, batch(), targets)
            self.optimizer.update(model.flat_params, model.flat_gradients, self.slots, self.steps, model.parameter_runs)
        except BaseException:  # also Ctrl-C: half a step leaves no trace
            self._restore_state()
            raise
        self.steps += 1
        return loss

    def learn_from(self, batches: Sequence[DataBatch], tally: Tally | None = None) -> float:
        """Update once on the gradients of several batches, averaged over their samples; return the mean of the losses.

        Batch norm normalizes each batch by itself. Its running statistics move once, by those of all batches pooled.
        """
        if self._spread is not None:
            return self._learn_spread(self._spread, batches, tally)
        if len(batches) == 1:
            (batch,) = batches
            with self.held(batch.shapes) as plan:
                return self.learn(plan, batch.load(plan), batch.inputs, tally, batch.weights)
        model = self.model
        with model.resting():  # no other thread sees half of it
            sums = AccumulatedGradients(model.flat_gradients, model.parameter_runs.trained)
            np.copyto(self._state_before, model.flat_state)
            total, statistics = 0.0, PooledMove(model)
            try:
                with self.gathering(statistics.pools):
                    for batch in batches:
                        with self.held(batch.shapes) as plan:
                            losses = self._pass(plan, batch, tally)
                            sums.add(batch.size)
                        total += batch.size * losses[0]
                        statistics.undo()
                statistics.move()
                sums.average()
                self.optimizer.update(
                    model.flat_params, model.flat_gradients, self.slots, self.steps, model.parameter_runs
                )
            except BaseException:  # also Ctrl-C: half a step leaves no trace
                self._restore_state()
                raise
        self.steps += 1
        return total / sum(batch.size for batch in batches)

    def _pass(self, plan: Plan, batch: DataBatch, tally: Tally | None) -> tuple[float, ...]:
        """Leave the gradients of one batch of several in the model; return its losses."""
        targets, weights = batch.load(plan), batch.weights
        forward_into(plan, self._pools)
        losses = self.objective(plan.outputs, targets, plan.output_gradients, weights)
        finite = math.isfinite(losses[0])
        if finite:
            if tally is not None:
                tally.add(losses, plan.outputs, targets, weights)
            plan.backward()
            model = self.model
            finite = all_finite(model.flat_gradients, model.parameter_runs.trained) and self._state_is_finite()
        if not finite:
            raise self._not_finite(losses, batch.inputs(), targets)
        return losses

    def _learn_spread(self, spread: Spread, batches: Sequence[DataBatch], tally: Tally | None) -> float:
        """Do what `learn_from` does together with the other ranks, each of which makes the same update."""
        model, runs = self.model, self.model.parameter_runs
        with model._plans.turn(training=True):
            sums = AccumulatedGradients(model.flat_gradients, runs.trained) if len(batches) > 1 else None
            np.copyto(self._state_before, model.flat_state)
            total, statistics, found = 0.0, PooledMove(model), dict[str, list[Found]]()
            try:
                for batch in batches:
                    passed = spread.forward(batch)
                    statistics.undo()
                    for mean, each in passed.found.items():
                        found.setdefault(mean, []).extend(each)
                    went_backward = finite = math.isfinite(passed.losses[0])
                    if finite:
                        if tally is not None:
                            tally.add(passed.losses, passed.outputs, passed.targets, batch.weights)
                        spread.backward()
                        finite = all_finite(model.flat_gradients, runs.trained)
                    if not finite:
                        where = spread.where_not_finite(went_backward)
                        error = self._not_finite(passed.losses, batch.inputs(), passed.targets)
                        raise spread.common(NonFiniteLossError(f"{error}{where}"))
                    total += batch.size * passed.losses[0]
                    if sums is not None:
                        sums.add(batch.size)
                statistics.move_by_found(found, len(batches))
                if not self._state_is_finite():
                    raise spread.common(self._not_finite(passed.losses, batch.inputs(), passed.targets))
                for pools in self._pools:
                    for mean in pools.keys() & found.keys():
                        for of_part in found[mean]:
                            pools[mean].add(of_part.count, of_part.mean, of_part.var)
                if sums is not None:
                    sums.average()
                self.optimizer.update(model.flat_params, model.flat_gradients, self.slots, self.steps, runs)
            except BaseException:  # also Ctrl-C: half a step leaves no trace
                self._restore_state()
                raise
        self.steps += 1
        return total / sum(batch.size for batch in batches)

    @contextlib.contextmanager
    def gathering(self, pools: Pools) -> Iterator[None]:
        """Add to `pools`, by the names of running means, what norms find for the batches that are trained on."""
        self._pools.append(pools)
        try:
            yield
        finally:
            self._pools[:] = [each for each in self._pools if each is not pools]

    def _not_finite(self, losses: Sequence[float], xb: Batch, targets: Sequence[Array]) -> NonFiniteLossError:
        self._restore_state()
        rate = self.optimizer.learning_rate_at(self.steps)
        failure = Failure(self.steps, losses, self.model.check_inputs(xb), targets, rate)
        return NonFiniteLossError(explain(self.model, self.objective, failure))

    def _state_is_finite(self) -> bool:
        if not self._finite_checks:
            self._finite_checks.append(finite_checks(self.model))
        for is_finite in self._finite_checks[0]:  # noqa: SIM110 (a generator takes as long as a small state)
            if not is_finite():
                return False
        return True

    @contextlib.contextmanager
    def _state_kept(self) -> Iterator[None]:
        np.copyto(self._state_before, self.model.flat_state)
        try:
            yield
        finally:
            self._restore_state()

    def _restore_state(self) -> None:
        np.copyto(self.model.flat_state, self._state_before)

    def _checked(self, xb: Batch) -> list[Array]:
        arrays = self.model.check_inputs(xb)
        if not len(arrays[0]):
            raise ValueError("x: expected at least one sample, got none")
        return arrays

    def _arrays_and_plan(self, xb: Batch) -> tuple[list[Array], Held]:
        """Check a batch; one like the last is good: checks show in a step of a small net."""
        for like, held in self._last_batch:
            if type(xb) is np.ndarray and xb.shape == like[0] and xb.dtype == like[1]:
                return [xb], held
        arrays = self._checked(xb)
        held = self.held(tuple([each.shape for each in arrays]))
        if len(arrays) == 1 and arrays[0] is xb and arrays[0].dtype.kind == "f":  # of integers, the values are checked
            self._last_batch[:] = [((arrays[0].shape, arrays[0].dtype), held)]
        return arrays, held

    def held(self, shapes: tuple[Shape, ...]) -> Held:
        """The plan that trains on inputs of these shapes, for a `with` block."""
        held = self._held_before.get(shapes)
        if held is None:
            held = self.model.held(shapes, training=True, losses=self.objective.trained)
            self._held_before[shapes] = held
        return held

    def _batch_targets(self, yb: Targets, plan: Plan) -> tuple[Array, ...]:
        only = self.objective.only
        if only is not None and type(yb) is np.ndarray:
            targets = only.loss.targets if only.is_plain else only.targets
            return (targets(yb, plan.outputs[only.output].shape),)
        return self.objective.targets(yb, {name: output.shape for name, output in plan.outputs.items()})

    # ---------------------------------------------------------------------------------------------------- whole sets

    def evaluate(
        self, x: Any, y: Targets = None, batch_size: int = 256, *, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the mean loss and metrics of the trained net over a data set.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        y : array, or mapping of output name to array
            Targets as the loss takes them, or those of each loss. None where `x` gives batches, as for `Trainer.fit`.
        batch_size : int
            Samples computed at a time: bounds the memory. Means are weighted by it, so that it changes only rounding.
        sample_weight : array (samples,), or mapping of output name to such arrays, optional
            Losses and metrics become weighted means, `sum(w * each) / sum(w)`; weight 0 leaves a sample out.

        Returns
        -------
        dict
            "loss" and the names of the metrics, such as "accuracy". For losses by name also each of them, such as
            "class_loss", and the metrics as "class_accuracy".
        """
        if expect_stream("x", x, y, sample_weight):
            return self.evaluate_samples(Stream(self.model, self.objective, x, "x").check())
        samples = Samples(self.model, self.objective, x, y, sample_weight=sample_weight)
        warn_of_other_scales("x", self._scales, samples.inputs)
        return self.evaluate_samples(samples, batch_size)

    def evaluate_samples(self, samples: Samples | Stream, batch_size: int = 256) -> dict[str, float]:
        """Do what `evaluate` does on data that were checked before."""
        weighted = samples.is_weighted if isinstance(samples, Stream) else samples.weights is not None
        tally = self.tally(weighted)
        measure(self.model, self.objective, samples, batch_size, tally, self._spread)
        return tally.values()

    def tally(self, weighted: bool = False) -> Tally:
        """Return sums of nothing yet, for the losses and metrics of some batches; of samples with weights."""
        return (WeightedTally if weighted else Tally)(self.objective, self.metrics)

    def directions(self) -> dict[str, bool | None]:
        """Return the names of all that is measured, and whether larger is better; None where nothing says it."""
        return directions(self.objective, self.metrics)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What is remembered of the inputs that `fit` trained on last, one for each; nothing before."""
        return self._scales

    def remember_scales(self, scales: Sequence[Scale]) -> None:
        """Take what the inputs of a training look like: others are held against it."""
        self._scales = tuple(scales)

    @property
    def position(self) -> Position | None:
        """Where the last `fit` is, or was when it was interrupted; None before the first."""
        return self._position

    def callback_states(self) -> list[CallbackState]:
        """Return the states of the callbacks of the `fit` that runs, or of the last one."""
        if self._callback_states:
            return self._callback_states[0]()
        return [] if self._position is None else self._position.callbacks

    def begin_at(self, position: Position, callback_states: Callable[[], list[CallbackState]]) -> None:
        """Let this be the position of the `fit` that begins."""
        self._position = position
        self._callback_states[:] = [callback_states]

    def end_at(self, position: Position) -> None:
        """Keep what a later `fit` or checkpoint needs of the one that ends."""
        position.callbacks = self.callback_states()
        position.resumes = position.is_inside(self.epoch, self.steps)
        position.sums = position.tally.state() if position.resumes and position.tally is not None else None
        position.tally = None
        self._callback_states.clear()

    @contextlib.contextmanager
    def validating_on(self, samples: Samples | Stream | None) -> Iterator[None]:
        """Let `validate` know the validation data of the fit that runs."""
        self._validation[:] = [] if samples is None else [samples]
        try:
            yield
        finally:
            self._validation.clear()

    def validate(self) -> dict[str, float]:
        """Return what `evaluate` does of the validation data of the fit that runs; for callbacks.

        Raises
        ------
        RuntimeError
            No fit with validation data runs.
        """
        if not self._validation:
            raise RuntimeError("validate: expected a fit with validation_data or validation_split to run, got none")
        return self.evaluate_samples(self._validation[0])

    def go_on_from(self, position: Position | None) -> None:
        """Let the next `fit` begin where a checkpoint was saved."""
        self._position = position

    def stop(self) -> None:
        """End the running `Trainer.fit` after this epoch; for callbacks."""
        self.stop_requested = True
