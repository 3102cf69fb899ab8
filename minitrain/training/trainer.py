"""Trainer: one model, one loss, one optimizer; single steps, whole fits, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from minitrain.augment import Augmentation
from minitrain.data.scale import warn_of_other_scales
from minitrain.data.training_data import TrainingData
from minitrain.losses import Loss
from minitrain.objective.probabilities import classes, probabilities
from minitrain.training.callback import Callback
from minitrain.training.diagnosis import NonFiniteLossError
from minitrain.training.fitting import Fitting
from minitrain.training.history import History
from minitrain.training.learning_rate_finder import LearningRateFinder, find_learning_rate
from minitrain.training.measuring import predict
from minitrain.training.profile import LayerProfile, format_profile, profile_plan
from minitrain.training.statistics.adaptation import Method, adapt_to
from minitrain.training.statistics.calibration import calibrate_on
from minitrain.training.step import Batch, Learner, Targets
from nbnorm.jit.checks import expect_integer

__all__ = ["NonFiniteLossError", "Trainer"]

REFUSAL = (
    "this trainer is in the middle of a fit, in another thread or around this callback: epochs and history belong to "
    "one fit; wait for its end, or make another Trainer of the same model"
)


class Trainer(Learner, sealed=True):
    """Fits a model to data.

    Parameters
    ----------
    model : Model
    loss : Loss, or mapping of output name to Loss
        From `minitrain.losses`: mean over the batch, and its gradient. Where the outputs of the model have names, each
        has a loss of its own, `{"class": SoftmaxCrossEntropy(), "box": MeanSquaredError()}`, and targets and metrics
        come by these names, too. An output without a loss is not trained, and what leads to it alone neither. The loss
        of a model's only output may be given without its name, which is then left out everywhere.
    optimizer : Optimizer
        From `minitrain.optimizers`.
    metrics : mapping of name to callable, or sequence of callables, optional
        Measured beside the loss: `metric(outputs, targets)` is a mean over the samples. For the losses of classes the
        accuracy is measured unless something is given; `()` measures nothing. For losses by name, a mapping of output
        name to any of these. Metrics, and losses that are not minitrain's, get copies that cannot be written: what
        they keep stays as it was.
    loss_weights : mapping of output name to float, optional
        The loss that is made small is the sum of all losses times these, at least 0; 1 for outputs that are not named.
        A loss of weight 0 is measured, and nothing is trained by it.
    compile_processes : int, optional
        Processes that compile kernels beside this one while the first step runs, where they are not in the cache yet;
        0 for none. By default the environment variable `NBNORM_COMPILE_PROCESSES` says it, or else it is one less than
        there are cores, at most three. They end by themselves, or with this process.
    comm : mpi4py.MPI.Intracomm, optional
        The ranks of an MPI program that train this model together, such as `MPI.COMM_WORLD`: each of them makes the
        same calls with the same data, and computes a part of every batch. What comes out is what one process gives, to
        rounding. See docs/ranks.md.
    sync_batch_norm : bool
        Whether batch norms on several ranks have the statistics of the whole batch. False: each rank normalizes its
        part by itself (which is ghost batch norm), and the running statistics follow all parts pooled.
    deterministic : bool
        Whether batches are divided into parts, and sums made, in a way that does not depend on the number of ranks:
        the bits of a training are those of one rank, too. It takes longer, most of all on few ranks.

    Attributes
    ----------
    rank : int
        Which of the ranks this process is; 0 without `comm`. Callbacks of yours that write files look at it: those of
        minitrain write on the first rank alone.
    steps, epoch : int
        Updates and whole epochs so far.
    slots : dict of arrays
        The optimizer's own vectors, such as momentum.
    history : History or None
        Of the last `fit`; while one runs, a copy of what there is so far.

    Notes
    -----
    Whoever computes with the model has its memory to itself: two threads that call `step` take turns, and another
    thread's `predict` sees whole steps only. A loss or a metric may predict and evaluate with the model, but not train
    it (RuntimeError). One `fit` of a trainer runs at a time.

    A loss or metric of yours is checked as it runs: it returns one number, and a loss writes all of the gradient, which
    is seen on the first batch of each size.

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

    Two outputs, each with a loss of its own:

    >>> from minitrain import Input, Model, layers
    >>> inputs = Input((2,))
    >>> h = layers.ReLU()(layers.Dense(16)(inputs))
    >>> model = Model(inputs, {"side": layers.Dense(2)(h), "sum": layers.Dense(1)(h)})
    >>> trainer = Trainer(
    ...     model,
    ...     loss={"side": losses.SoftmaxCrossEntropy(), "sum": losses.MeanSquaredError()},
    ...     loss_weights={"sum": 0.3},
    ...     optimizer=optimizers.Adam(0.01),
    ... )
    >>> sorted(trainer.evaluate(x, {"side": y, "sum": x.sum(axis=1)}))
    ['loss', 'side_accuracy', 'side_loss', 'sum_loss']
    """

    def fit(
        self,
        x: Any,
        y: Targets = None,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        validation_data: Any = None,
        callbacks: Sequence[Callback] = (),
        shuffle: bool = True,
        seed: int | None = None,
        verbose: bool | Literal["auto"] = "auto",
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_split: float = 0.0,
        accumulate: int = 1,
        augment: Sequence[Augmentation] = (),
    ) -> History:
        """Train for a number of epochs more.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
            Converted to the model's dtype once, or, where that would take more memory than they have (uint8), batch by
            batch; integer inputs keep theirs. Or, without `y`, what gives batches (x, y) or (x, y, sample_weight) anew
            each time it is iterated over: a list of them, an object of yours, a PyTorch DataLoader. They are trained on
            as they come; `batch_size` and `shuffle` are their own business. Where it has a method `set_epoch`, that is
            called with the number of each epoch. A generator, which runs dry, is for one epoch.
        y : array, or mapping of output name to array
            Targets as the loss takes them, or those of each loss. A fit sees `x`, `y` and the validation data as they
            were when it began: what can be written is copied, which takes their memory once more. What cannot, and
            memory-mapped files, such as `numpy.load(path, mmap_mode="r")`, are read where they are, batch by batch:
            the memory does not grow with the set.
        epochs : int
            Passes over the data. Epochs are counted over the life of the trainer, from 1: a second `fit`, or one
            after `checkpoint.restore`, goes on where the first ended and gives the bits of one long fit.
        batch_size : int
            The last batch of an epoch holds what is left, and is trained too. Where one sample is left and the net
            cannot train on a single one (batch norm of vectors), it joins the batch before.
        validation_data : (x, y) or (x, y, sample_weight), or an iterable of such batches, optional
            Evaluated after each epoch: "val_loss", "val_accuracy", or "val_class_loss" and so on by output.
        callbacks : sequence of Callback
        shuffle : bool
            Whether each epoch has an order of its own, drawn from `seed` and its number alone.
        seed : int, optional
            The model's seed by default.
        verbose : "auto", True or False
            "auto": a live bar on a terminal (where rich is installed), a line for each epoch elsewhere; True: lines;
            False: nothing.
        sample_weight : array (samples,), or mapping of output name to such arrays, optional
            The loss that is made small, and what is reported, is `sum(w * losses) / sum(w)` over the data set: a
            sample of weight 2 counts as if it were there twice, and the unit of the weights does not matter. To take
            its gradient batch by batch without bias, weights are divided by their mean over the set, and the loss of a
            batch by its number of samples. A sample of weight 0 is left out. Metrics are weighted, too. Where `x` gives
            batches, weights come with them, and are divided by their mean over the batch (`accumulate` of them).
        class_weight : mapping of class to weight, "balanced", or a mapping of output name to these, optional
            Factors of the weights of the samples of a class; 1 for classes that are not named. "balanced" is
            `samples / (classes * samples of the class)`. They are for training, not for validation.
        validation_split : float
            Share of the samples that is held out and validated on, drawn from the seed, every class alike.
        accumulate : int
            Batches whose gradients are averaged over their samples for one update; it is these together that
            callbacks, and `steps`, take for one batch. Batch norm normalizes each of them by itself; its running
            statistics move once, by those of all of them pooled.
        augment : list of Augmentation
            Changes that are made to samples as they are trained on, one after the other, such as
            `[augment.Flip(), augment.Shift(2)]`: see `minitrain.augment`. Validation sees them as they are.

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
        RuntimeError
            A fit of this trainer is running, in another thread or around this callback.
        """
        epochs = expect_integer("epochs", epochs, 0)
        with self._fit.block(REFUSAL):
            data = TrainingData(
                x,
                y,
                batch_size,
                validation_data,
                sample_weight,
                class_weight,
                validation_split,
                accumulate,
                augment,
            )
            fitting = Fitting(self, data, epochs, callbacks, shuffle, seed, verbose)
            self._history, self.stop_requested = fitting.history, False
            fitting.run()
        return fitting.history

    def calibrate(self, x: Any, batch_size: int = 256) -> None:
        """Set the running statistics of all batch norms to those of the data, exactly: precise batch norm.

        Moving averages lag behind the weights and weigh the last batches most, which shows after few or small batches,
        with a small momentum, and where weights were averaged. Here mean and variance (unbiased) of what each norm
        reads in inference are found in float64 over all samples, layer after layer: neither the size nor the order of
        batches matters, beyond rounding. Dropout is off, frozen norms stay, and nothing changes where anything fails.

        Parameters
        ----------
        x : array of shape (samples, *input shape), a sequence or mapping of arrays for several inputs, or what gives
            batches (x, y), as `fit` takes it
            As a training sees it, without augmentation. It is read once for each norm that follows another.
        batch_size : int
            Samples computed at a time: bounds the memory.

        Raises
        ------
        ValueError, TypeError
            Data that do not fit the model, whose statistics are not finite, or with fewer than two values per channel;
            a generator, which runs dry, where more than one pass is needed.
        RuntimeError
            The model is in the middle of a step.

        References
        ----------
        Y. Wu and J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv:2105.07576), section 3.

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Input, Model, Trainer, layers, losses, optimizers
        >>> x = np.array([[1.0], [3.0], [8.0]])
        >>> model = Model((i := Input((1,))), layers.BatchNorm()(i), dtype="float64")
        >>> Trainer(model, losses.MeanSquaredError(), optimizers.SGD(0.1)).calibrate(x, batch_size=2)
        >>> float(model.state["bn1.running_mean"][0]), float(model.state["bn1.running_var"][0])
        (4.0, 13.0)
        """
        calibrate_on(self.model, self.objective, x, batch_size, self.spread)

    def adapt(
        self,
        x: Batch,
        method: Method = "statistics",
        *,
        batch_size: int = 64,
        prior: float = 16.0,
        learning_rate: float = 1e-3,
        epochs: int = 1,
    ) -> None:
        """Fit a trained net to samples that look different from those it was trained on, without labels.

        Noise, blur, another camera: means and variances inside the net are not those of the training any more, and
        batch norm by its running statistics shifts and scales what is left the wrong way. All of this takes the
        samples for a fair sample of what comes: where they hold a few of the classes only, it does harm.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        method : {"statistics", "mixture", "tent"}
            "statistics": the running statistics become those of `x`, as by `calibrate` (Li et al. 2017).
            "mixture": a weighted mean of both, for few samples: those of the training count for `prior` samples
            (Schneider et al. 2020).
            "tent": the statistics of `x`; then scale and shift of all norms, of other kinds than batch norm too, learn
            to make the entropy of the predictions small (Wang et al. 2021), and the statistics are taken anew.
        batch_size : int
            Samples at a time; of the steps of "tent", too.
        prior : float
            In samples.
        learning_rate : float
            Of the Adam that "tent" trains with.
        epochs : int
            Passes of "tent" over `x`.

        Raises
        ------
        ValueError, TypeError
            Data that do not fit the model; a net without norms that can be adapted; "tent" of a net that
            SoftmaxCrossEntropy does not train. Nothing changes where anything fails.

        References
        ----------
        Y. Li et al., "Revisiting batch normalization for practical domain adaptation", 2017 (arXiv:1603.04779).
        S. Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020
        (arXiv:2006.16971), section 3. D. Wang et al., "Tent: fully test-time adaptation by entropy minimization", 2021
        (arXiv:2006.10726).

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Trainer, losses, models, optimizers
        >>> model = models.mlp((4,), classes=3, norm="before", seed=0)
        >>> trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam())
        >>> trainer.adapt(np.random.default_rng(0).standard_normal((50, 4)) * 5, method="tent")
        """
        adapt_to(
            self,
            x,
            method,
            batch_size=batch_size,
            prior=prior,
            learning_rate=learning_rate,
            epochs=epochs,
        )

    def predict(self, x: Batch, batch_size: int = 256) -> Any:
        """Return the outputs for all samples of `x`, as `Model.predict` does.

        Of several ranks, which all call it, each computes some of the batches, and all get all outputs.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        batch_size : int
            Samples computed at a time: bounds the memory.

        Returns
        -------
        array of shape (samples, *output shape), of the model's dtype
            A dictionary of arrays by the names of the outputs, where they have names.

        Raises
        ------
        ValueError
            A shape that does not fit.
        """
        return predict(self.model, x, expect_integer("batch_size", batch_size, 1), self.spread)

    def predict_proba(self, x: Batch, batch_size: int = 256) -> Any:
        """Return the probability of each class for all samples of `x`, as `minitrain predict` prints them.

        The loss says what the outputs are, or else a Sigmoid or Softmax at the end of the net.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        batch_size : int
            Samples computed at a time: bounds the memory.

        Returns
        -------
        array of float64
            (samples, classes), rows that sum to 1; (samples, 2) for nets with one output and a binary loss. Of several
            yes-or-no outputs (samples, outputs), each a probability of its own. A dictionary of these by the names of
            the outputs that have losses, where they have names.

        Raises
        ------
        ValueError
            The net gives numbers, not classes.

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Trainer, losses, models, optimizers
        >>> trainer = Trainer(models.mlp((2,), classes=3), losses.SoftmaxCrossEntropy(), optimizers.Adam())
        >>> trainer.predict_proba(np.zeros((5, 2))).shape
        (5, 3)
        """
        warn_of_other_scales("x", self.scales, self.model.check_inputs(x))
        return probabilities(self.model.graph, self.predict(x, batch_size), self._losses_by_output())

    def predict_classes(self, x: Batch, batch_size: int = 256) -> Any:
        """Return the most likely class of each sample, int64 (samples,); see `predict_proba`.

        Of several yes-or-no outputs 0 or 1 for each of them, (samples, outputs).
        """
        warn_of_other_scales("x", self.scales, self.model.check_inputs(x))
        return classes(self.model.graph, self.predict(x, batch_size), self._losses_by_output())

    def _losses_by_output(self) -> dict[str, Loss]:
        return {term.output: term.loss for term in self.objective.terms}

    def __repr__(self) -> str:
        position = f"{self.steps} steps, {self.epoch} epochs"
        return f"<Trainer of {self.model!r}, {self.loss!r}, {self.optimizer!r}, {position}>"

    def find_learning_rate(
        self,
        x: Batch,
        y: Targets,
        *,
        start: float = 1e-7,
        end: float = 10.0,
        steps: int = 100,
        batch_size: int = 32,
        smoothing: float = 0.98,
        stop_factor: float = 4.0,
        seed: int | None = None,
    ) -> LearningRateFinder:
        """Train with a learning rate that rises, watch the loss, and put everything back as it was.

        Parameters, state, the optimizer and its vectors, steps and epochs are bit for bit what they were, whatever
        ends the search, so that it can be done before a training, or in the middle of one.
        Smith, "Cyclical learning rates for training neural networks", 2017 (arXiv:1506.01186), section 3.3.

        Parameters
        ----------
        x, y
            Data as `fit` takes them.
        start, end : float
            The first and the last rate; between them each is the one before times the same factor.
        steps : int
            How many rates are tried, a batch each.
        batch_size : int
            That of the training to come: the best rate depends on it.
        smoothing : float
            In [0, 1): how much of the moving average of the losses stays at each step.
        stop_factor : float
            The search ends where the smoothed loss is so many times its lowest value, or not finite.
        seed : int, optional
            Of the order of the samples; the model's by default.

        Returns
        -------
        LearningRateFinder
            `rates`, `losses`, `smoothed`, `suggestion`, and `plot(path)`.

        Raises
        ------
        NonFiniteLossError
            The loss of the first batch is not finite already.
        ValueError, TypeError
            Data that do not fit the model or the loss, rates that do not rise.
        RuntimeError
            A fit of this trainer is running.
        """
        with self._fit.block(REFUSAL):
            return find_learning_rate(
                self,
                x,
                y,
                start=start,
                end=end,
                steps=steps,
                batch_size=batch_size,
                smoothing=smoothing,
                stop_factor=stop_factor,
                seed=seed,
            )

    def profile(
        self, xb: Batch, yb: Targets, *, runs: int = 10, print_fn: Callable[[str], object] = print
    ) -> list[LayerProfile]:
        """Print where the time of a step goes: milliseconds, GFLOP/s, GB/s and algorithms of every layer.

        Nothing is trained.

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
        arrays = self._checked(xb)
        with self.held(tuple(each.shape for each in arrays)) as plan:
            plan.load(arrays)
            targets = self._batch_targets(yb, plan)
            with self._state_kept():
                layers = profile_plan(plan, lambda: self.objective(plan.outputs, targets, plan.output_gradients), runs)
        print_fn(format_profile(layers, plan.graph, plan.batch))
        return layers
