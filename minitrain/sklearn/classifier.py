"""A classifier for scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from minitrain.layer import Layer
from minitrain.losses import SoftmaxCrossEntropy
from minitrain.optimizers import Optimizer
from minitrain.schedules import Schedule
from minitrain.sklearn.compat import validate_data, with_callbacks
from minitrain.sklearn.estimator import REAL, Lesson, NetEstimator, all_or_nothing
from minitrain.sklearn.nets import BATCH
from minitrain.sklearn.rows import Rows, checked_weights, distinct, present
from minitrain.sklearn.weights import class_factors
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import mismatch

__all__ = ["NetClassifier"]


class NetClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]
    """A net as a classifier of scikit-learn.

    Parameters
    ----------
    model : str or callable
        A name in `minitrain.models`, such as "mlp" or, with `input_shape`, "lenet"; or a function
        `model(input_shape, outputs, seed)` that returns a new `Model` with that many logits, or a function from the
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
    label_smoothing : float
        Share of each target that is divided equally among all classes.
    standardize : bool
        Whether features get mean 0 and deviation 1 (of images: channels). The numbers come from what is trained on.
    early_stopping : bool
        Whether `fit` validates on a part of the data and ends when the loss there improves no more; the net of the best
        epoch is kept. `partial_fit` knows no end and pays no attention to it.
    validation_fraction : float
        That part, drawn from the seed, every class alike.
    n_iter_no_change : int
        Epochs in a row without improvement before training ends.
    tol : float
        Changes of the loss up to this size are no improvement.
    class_weight : mapping of label to float, "balanced" or None
        Factors of the weights of the samples of a class; 1 for classes that are not named.
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
    classes_ : array
        The labels, in the order of the columns of `predict_proba`.
    loss_curve_ : list of float
        The mean loss of each epoch since the net was new.
    n_iter_ : int
        Epochs of the last `fit`, or of all `partial_fit`s since.
    history_ : History
        Of the last training: with "val_loss" where there was validation.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    A sample of weight 2 is the same as two equal ones, to the bit, and the order of the samples does not matter: many
    equal samples are trained on as one with the sum of their weights, and whole weights, if they are small, as so many
    equal samples. So an epoch may have fewer or more steps than there are samples, and a sample of weight 0 is as good
    as absent, its class also.

    The same `random_state` gives the same bits, whatever the number of threads and jobs.

    scikit-learn's callbacks (`set_callbacks`, since scikit-learn 1.9) are told of every epoch.

    Examples
    --------
    >>> from minitrain.sklearn import NetClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_iris(return_X_y=True)
    >>> cross_val_score(NetClassifier(random_state=0), X, y, cv=5).mean() > 0.93
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
        label_smoothing: float = 0.1,
        standardize: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.label_smoothing = label_smoothing
        self.standardize = standardize
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetClassifier:
        """Train on samples (N, features) and their labels (N,); return the estimator.

        Parameters
        ----------
        X : array-like (samples, features)
        y : array-like (samples,)
            Numbers or strings.
        sample_weight : array-like (samples,), optional
            Weight 2 is the same sample twice; only ratios matter otherwise.
        """
        self._check_parameters()
        goes_on = self._goes_on()
        X, labels, weight = self._checked(X, y, sample_weight, reset=not goes_on)
        if not goes_on:
            classes = np.unique(labels)
            if len(classes) == 1:
                raise ValueError(f"y: expected labels of two classes or more, got 1 class: {classes.tolist()[0]!r}")
            self.classes_ = classes
            self._begin(len(classes))
        self._amounts = np.zeros(len(self.classes_))
        lesson = self._lesson(X, labels, weight)
        if not goes_on:
            self._measure(lesson.rows)
        self._learn(lesson, X, labels, weight)
        return self

    @all_or_nothing
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> NetClassifier:
        """Train for one epoch on these samples, which need not be of all classes; return the estimator.

        The mean and the deviation of the features, and "balanced" weights, are those of all samples so far.

        Parameters
        ----------
        X : array-like (samples, features)
        y : array-like (samples,)
        classes : array-like
            All labels that will come; needed in the first call.
        sample_weight : array-like (samples,), optional
        """
        self._check_parameters()
        first = "model_" not in vars(self)
        X, labels, weight = self._checked(X, y, sample_weight, reset=first)
        if first:
            if classes is None:
                raise ValueError("classes: expected all labels in the first call of partial_fit, got None")
            given = np.unique(np.asarray(classes))
            if len(given) < 2:
                raise ValueError(f"classes: expected two or more, got {len(given)}")
            self.classes_ = given
            self._begin(len(given))
            self._amounts = np.zeros(len(given))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}")
        lesson = self._lesson(X, labels, weight)
        self._measure(lesson.rows)
        self._learn_once(lesson)
        return self

    def predict(self, X: Any) -> Array:
        """Return the most likely label of each sample (N,)."""
        codes = self._outputs(X).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def decision_function(self, X: Any) -> Array:
        """Return the logits (N, classes); of two classes the second's minus the first's (N,)."""
        logits = self._outputs(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class (N, classes), float64, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities (N, classes), float64."""
        logits = self._outputs(X).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Array, Array, Array | None]:
        """Return samples, labels and weights without those of weight 0."""
        X, y = validate_data(self, X, y, dtype=REAL, reset=reset)
        y = column_or_1d(y, warn=True)
        try:
            check_classification_targets(y)
            np.unique(y)
        except TypeError:  # labels that have no order
            kinds = ", ".join(sorted({type(label).__name__ for label in y}))
            raise TypeError(mismatch("y", "labels of one kind, numbers or strings", kinds)) from None
        return present(X, y, checked_weights(sample_weight, len(X)))

    def _lesson(self, X: Array, labels: Array, weight: Array | None) -> Lesson:
        """Return what a net is to learn of labels, all of them in `classes_`."""
        codes = np.searchsorted(self.classes_, labels).clip(0, len(self.classes_) - 1)
        unknown = self.classes_[codes] != labels
        if unknown.any():
            known = ", ".join(map(str, self.classes_))
            raise ValueError(f"y: expected labels of the classes {known}, got {labels[unknown].tolist()[0]!r}")
        rows = distinct(X, codes, weight)
        return Lesson(self._weighted(rows), SoftmaxCrossEntropy(self.label_smoothing))

    def _weighted(self, rows: Rows) -> Rows:
        """Return samples with weights times those of their classes, also where they are validated on.

        `_amounts` are the sums of the weights of each class since the last `fit` began, without `class_weight`.
        """
        weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
        amounts = np.bincount(rows.y, weight, minlength=len(self.classes_))
        self._amounts = self._amounts + amounts * (rows.total / weight.sum())
        if self.class_weight is None:
            return rows
        factors = class_factors(self.class_weight, self.classes_, self._amounts)
        weight = weight * factors[rows.y]
        if not weight.any():
            raise ValueError("class_weight: expected a weight above 0 for one class that is there, got zero for all")
        return rows._replace(weight=weight)
