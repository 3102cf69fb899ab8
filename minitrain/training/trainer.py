"""Trainer: one model, one loss, one optimizer; single steps, whole fits, evaluation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from minitrain.callbacks import Callback
from minitrain.compile.plan import Plan
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.optimizers import Optimizer, all_finite
from minitrain.training.ahead import offered_step
from minitrain.training.batches import Metric, Samples, Tally, named_metrics, ranges
from minitrain.training.diagnosis import NonFiniteLossError, explain
from minitrain.training.fitting import Fitting
from minitrain.training.history import History
from minitrain.training.profile import LayerProfile, format_profile, profile_plan
from nbnorm.jit.checks import mismatch

__all__ = ["NonFiniteLossError", "Trainer"]

Array = npt.NDArray[Any]
Batch = Array | Sequence[Array]


class Trainer:
    """Fits a model to data.

    Parameters
    ----------
    model : Model
    loss : Loss
        From `minitrain.losses`: mean over the batch, and its gradient.
    optimizer : Optimizer
        From `minitrain.optimizers`.
    metrics : mapping of name to callable, or sequence of callables, optional
        Measured beside the loss: `metric(outputs, targets)` is a mean over the samples. For the losses of classes the
        accuracy is measured unless something is given; `()` measures nothing.
    compile_processes : int, optional
        Processes that compile kernels beside this one while the first step runs, where they are not in the cache yet;
        0 for none. By default the environment variable `NBNORM_COMPILE_PROCESSES` says it, or else it is one less than
        there are cores, at most three. They end by themselves, or with this process.

    Attributes
    ----------
    steps, epoch : int
        Updates and whole epochs so far.
    slots : dict of arrays
        The optimizer's own vectors, such as momentum.
    history : History or None
        Of the last `fit`, also while it runs.

    Examples
    --------
    >>> import numpy as np
    >>> from minitrain import Trainer, losses, models, optimizers
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((64, 2)).astype("float32")
    >>> y = (x[:, 0] > x[:, 1]).astype(int)
    >>> model = models.mlp((2,), classes=2, hidden=(16,), seed=0)
    >>> trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
    >>> history = trainer.fit(x, y, epochs=20, batch_size=16, verbose=False)
    >>> history.metrics["loss"][-1] < history.metrics["loss"][0]
    True
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
        if compile_processes is not None and (type(compile_processes) is not int or compile_processes < 0):
            raise ValueError(mismatch("compile_processes", "an integer of at least 0, or None", compile_processes))
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = named_metrics(loss, metrics)
        self.slots = optimizer.slots(model.flat_params)
        self.steps = 0
        self.epoch = 0
        self.history: History | None = None
        self.stop_requested = False
        self._compile_processes = compile_processes
        self._penalized = model.penalized  # one object: the optimizer remembers how it divided it
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
        if not (math.isfinite(loss) and all_finite(self.model.flat_gradients)):
            self._restore_state()
            rate = self.optimizer.learning_rate_at(self.steps)
            raise NonFiniteLossError(explain(self.model, self.steps, loss, batch(), rate))
        model = self.model
        self.optimizer.update(model.flat_params, model.flat_gradients, self.slots, self.steps, self._penalized)
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

    def profile(
        self, xb: Batch, yb: npt.ArrayLike, *, runs: int = 10, print_fn: Callable[[str], object] = print
    ) -> list[LayerProfile]:
        """Print where the time of a step goes: milliseconds, GFLOP/s and GB/s of every layer. Nothing is trained.

        Parameters
        ----------
        xb, yb
            A batch as `step` takes it.
        runs : int
            The 20th percentile of so many runs is taken.
        print_fn : callable
            Takes the table.

        Returns
        -------
        list of LayerProfile
            The numbers, in the order in which the layers run; fused layers count as one.
        """
        plan = self._load(xb)
        targets = self._batch_targets(yb, plan)
        with self._state_kept():
            layers = profile_plan(plan, lambda: self.loss(plan.output, targets, plan.output_gradient), runs)
        print_fn(format_profile(layers, plan.graph, plan.batch))
        return layers

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

    def fit(
        self,
        x: Batch,
        y: npt.ArrayLike,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        validation_data: tuple[Batch, npt.ArrayLike] | None = None,
        callbacks: Sequence[Callback] = (),
        shuffle: bool = True,
        seed: int | None = None,
        verbose: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train for a number of epochs more.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
            Converted to the model's dtype once.
        y : array
            Targets as the loss takes them.
        epochs : int
            Passes over the data. Epochs are counted over the life of the trainer, from 1: a second `fit`, or one
            after `checkpoint.restore`, goes on where the first ended and gives the bits of one long fit.
        batch_size : int
            The last batch of an epoch holds what is left, and is trained too. Where one sample is left and the net
            cannot train on a single one (batch norm of vectors), it joins the batch before.
        validation_data : (x, y), optional
            Evaluated after each epoch: "val_loss", "val_accuracy".
        callbacks : sequence of Callback
        shuffle : bool
            Whether each epoch has an order of its own, drawn from `seed` and its number alone.
        seed : int, optional
            The model's seed by default.
        verbose : "auto", True or False
            "auto": a live bar on a terminal (where rich is installed), a line for each epoch elsewhere; True: lines;
            False: nothing.

        Returns
        -------
        History
            Its `interrupted` is True where Ctrl-C ended the training: the step under way was finished, what was
            learned is kept, and the callbacks' `on_train_end` ran. A second Ctrl-C undoes the step instead.

        Raises
        ------
        NonFiniteLossError
            The loss or a gradient is not finite; the parameters are those before that step (where an update has
            overflowed them, the next step says so).
        ValueError, TypeError
            Data that do not fit the model or the loss; raised before anything is trained.
        """
        fitting = Fitting(self, x, y, batch_size, validation_data, callbacks, shuffle, seed, verbose)
        return fitting.run(epochs)

    def stop(self) -> None:
        """End the running `fit` after this epoch; for callbacks."""
        self.stop_requested = True
