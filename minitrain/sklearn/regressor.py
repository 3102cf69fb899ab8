"""A regressor for scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import RegressorMixin

from minitrain.layer import Layer
from minitrain.losses import MeanSquaredError
from minitrain.optimizers import Optimizer
from minitrain.schedules import Schedule
from minitrain.sklearn.compat import validate_data, with_callbacks
from minitrain.sklearn.estimator import REAL, Lesson, NetEstimator, all_or_nothing
from minitrain.sklearn.nets import BATCH
from minitrain.sklearn.rows import Scaling, checked_weights, distinct, present
from nbnorm.jit.arrays import Array

__all__ = ["NetRegressor"]


class NetRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]
    """A net as a regressor of scikit-learn, for one target or several.

    Parameters
    ----------
    model : str or callable
        A name in `minitrain.models`, such as "mlp" or, with `input_shape`, "lenet"; or a function
        `model(input_shape, outputs, seed)` that returns a new `Model` with that many numbers, or a function from the
        node of the input to the node of the output.
    hidden : sequence of int
        Sizes of the hidden layers of "mlp".
    activation : str or Layer
        "relu", "leaky_relu", "prelu", "sigmoid", "tanh" or a layer; of named models.
    norm : "auto", "before", "after", one of models.NORMS, or None
        Batch norm before or after each activation of named models, or another norm. "auto": none in "mlp", which is
        better and faster on small tables, "before" in the others.
    input_shape : tuple of int, optional
        Of one sample, such as (1, 8, 8) for rows of 64 pixels; a vector of all features by default.
    epochs : int or "auto"
        Passes over the data. "auto": 30, or more where that makes fewer than 200 steps. With `early_stopping` at most
        200, or more where that makes fewer than 2000 steps.
    batch_size : int
        At most as many as there are samples.
    optimizer : str or Optimizer
        "adamw", "adam", "rmsprop", "sgd" (with momentum 0.9); or one of `minitrain.optimizers`, which has its own rate
        and penalties.
    learning_rate : float or Schedule
        The peak of one cycle (`schedules.OneCycle`) over the steps of `fit`. Where their number is not known ahead,
        with `early_stopping` and in `partial_fit`, a tenth of it is the rate of all steps.
    alpha : float
        What keeps weights small: the weight decay of "adamw", the L2 penalty of the other optimizers.
    standardize : bool
        Whether features get mean 0 and deviation 1 (of images: channels). The numbers come from what is trained on.
        Targets always do, each output for itself; predictions are turned back.
    early_stopping : bool
        Whether `fit` validates on a part of the data and ends when the loss there improves no more; the net of the best
        epoch is kept. `partial_fit` knows no end and pays no attention to it.
    validation_fraction : float
        That part, drawn from the seed.
    n_iter_no_change : int
        Epochs in a row without improvement before training ends.
    tol : float
        Changes of the loss up to this size are no improvement.
    warm_start : bool
        Whether `fit` goes on with the net that is there, and with its mean and deviation of the features. Parameters of
        its shape are not looked at then.
    random_state : int, RandomState instance or None
        Decides about first weights, the order of samples, and what is validated on.
    verbose : bool
        Whether to print a line for each epoch.

    Attributes
    ----------
    model_ : Model
        Of standardized features and targets.
    loss_curve_ : list of float
        The mean squared error of the standardized targets in each epoch since the net was new.
    n_iter_ : int
        Epochs of the last `fit`, or of all `partial_fit`s since.
    history_ : History
        Of the last training: with "val_loss" where there was validation.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    Weights of samples, their order, `random_state` and callbacks: as in `NetClassifier`.

    Examples
    --------
    >>> from minitrain.sklearn import NetRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_diabetes(return_X_y=True)
    >>> cross_val_score(NetRegressor(random_state=0), X, y, cv=5).mean() > 0.4
    np.True_
    """

    def __init__(
        self,
        model: str | Callable[..., Any] = "mlp",
        *,
        hidden: Sequence[int] = (100,),
        activation: str | Layer = "relu",
        norm: str | None = "auto",
        input_shape: Sequence[int] | None = None,
        epochs: int | Literal["auto"] = "auto",
        batch_size: int = BATCH,
        optimizer: str | Optimizer = "adamw",
        learning_rate: float | Schedule = 0.02,
        alpha: float = 1.0,
        standardize: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.hidden = hidden
        self.activation = activation
        self.norm = norm
        self.input_shape = input_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.standardize = standardize
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:
        """Train on samples (N, features) and their targets; return the estimator.

        Parameters
        ----------
        X : array-like (samples, features)
        y : array-like (samples,) or (samples, outputs)
        sample_weight : array-like (samples,), optional
            Weight 2 is the same sample twice; only ratios matter otherwise.
        """
        self._check_parameters()
        goes_on = self._goes_on()
        X, y, weight = self._checked(X, y, sample_weight, reset=not goes_on)
        self._learn(self._lesson(X, y, weight, fresh=not goes_on, measured=not goes_on), X, y, weight)
        return self

    @all_or_nothing
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:
        """Train for one epoch on these samples; return the estimator.

        Mean and deviation of features and targets are those of all samples so far.

        Parameters
        ----------
        X : array-like (samples, features)
        y : array-like (samples,) or (samples, outputs)
        sample_weight : array-like (samples,), optional
        """
        self._check_parameters()
        first = "model_" not in vars(self)
        X, y, weight = self._checked(X, y, sample_weight, reset=first)
        self._learn_once(self._lesson(X, y, weight, fresh=first, measured=True))
        return self

    def predict(self, X: Any) -> Array:
        """Return the targets of each sample in the shape that `fit` was given them, float64."""
        outputs = self._outputs(X)
        targets = self._targets.undo(outputs)
        return targets.reshape(len(targets), *self._target_shape)

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Array, Array, Array | None]:
        """Return samples, targets and weights without those of weight 0."""
        X, y = validate_data(self, X, y, dtype=REAL, multi_output=True, y_numeric=True, reset=reset)
        outputs = len(y[0]) if y.ndim == 2 else 1
        if not reset and outputs != len(self._targets.mean):
            raise ValueError(f"y: expected {len(self._targets.mean)} targets as before, got {outputs}")
        self._target_shape = y.shape[1:]
        return present(X, y.astype(np.float64), checked_weights(sample_weight, len(X)))

    def _lesson(self, X: Array, y: Array, weight: Array | None, fresh: bool, measured: bool) -> Lesson:
        """Return what a net is to learn: of new data, and a new one where `fresh`.

        `measured` says whether mean and deviation are also those of these samples.
        """
        rows = distinct(X, y, weight)
        targets = rows.y.reshape(len(rows.y), -1)
        here = Scaling.of("y", targets, rows)
        if fresh:
            self._begin(targets.shape[1])
            self._targets = here
        elif measured:
            self._targets = self._targets.merged(here)
        if measured:
            self._measure(rows)
        return Lesson(rows._replace(y=self._targets.apply(targets)), MeanSquaredError())

    def __sklearn_tags__(self) -> Any:
        """Return the tags: several targets are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
