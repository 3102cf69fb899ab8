"""What a classifier and a regressor have in common: data in, a trained net out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from minitrain.callbacks import EarlyStopping
from minitrain.losses import Loss
from minitrain.model import Model
from minitrain.sklearn.compat import CallbackSupport, begin_fit, has_callbacks, validate_data
from minitrain.sklearn.following import Following
from minitrain.sklearn.nets import (
    input_shape_of,
    make_net,
    make_optimizer,
    number_of_epochs,
    on_few_threads,
    outputs_of,
)
from minitrain.sklearn.rows import Rows, Scaling
from minitrain.training.callback import Callback
from minitrain.training.trainer import Trainer
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_boolean, expect_integer, expect_number, mismatch

__all__ = ["REAL", "Lesson", "NetEstimator", "all_or_nothing"]

REAL = (np.float64, np.float32)

Method = TypeVar("Method", bound=Callable[..., Any])


class Lesson(NamedTuple):
    """What a net is to learn.

    Attributes
    ----------
    rows : Rows
        Samples, with targets as the loss takes them.
    loss : Loss
    """

    rows: Rows
    loss: Loss


def all_or_nothing(method: Method) -> Method:
    """Return a method that trains, and that leaves the estimator as it was, fitted or not, where it raises an error.

    Ctrl-C is none: what was learned until then is kept.
    """

    @functools.wraps(method)
    def train(estimator: NetEstimator, *args: Any, **kwargs: Any) -> Any:
        before = dict(estimator.__dict__)
        try:
            return method(estimator, *args, **kwargs)
        except Exception:
            estimator.__dict__.clear()
            estimator.__dict__.update(before)
            raise

    return cast(Method, train)


class NetEstimator(CallbackSupport, BaseEstimator):  # type: ignore[misc]
    """Base of `NetClassifier` and `NetRegressor`; see there."""

    def _check_parameters(self) -> None:
        """Refuse what no training could use, whether this one does or not; what is used only is checked there."""
        for name in ("standardize", "early_stopping", "warm_start"):
            expect_boolean(name, getattr(self, name))
        if not isinstance(self.verbose, bool | np.bool_):
            expect_integer("verbose", self.verbose, 0)
        expect_integer("batch_size", self.batch_size)
        expect_integer("n_iter_no_change", self.n_iter_no_change)
        expect_number("tol", self.tol, 0.0)
        expect_number("alpha", self.alpha, 0.0)
        expect_number("validation_fraction", self.validation_fraction, 0.0, 1.0, open_low=True, open_high=True)

    def _goes_on(self) -> bool:
        """Whether `fit` trains the net that is there."""
        return bool(self.warm_start) and "model_" in vars(self)

    def _begin(self, outputs: int) -> None:
        """Make a net that has learned nothing."""
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.model_: Model = make_net(
            self.model,
            input_shape_of(self.input_shape, self.n_features_in_),
            outputs,
            self._seed,
            hidden=self.hidden,
            activation=self.activation,
            norm=self.norm,
        )
        self._inputs: Scaling | None = None
        self._trainer: Trainer | None = None
        self.loss_curve_: list[float] = []

    def _measure(self, rows: Rows) -> None:
        """Take these samples into the mean and the deviation of the features."""
        if self.standardize:
            shape = input_shape_of(self.input_shape, self.n_features_in_)
            here = Scaling.of("X", rows.x, rows, math.prod(shape[1:]))
            self._inputs = here if self._inputs is None else self._inputs.merged(here)

    def _scaled(self, X: Array) -> Array:
        """Return samples as the net takes them."""
        with np.errstate(over="ignore"):  # of what was not standardized: training and `_outputs` look at it
            x = X.astype(np.float32) if self._inputs is None else self._inputs.apply(X)
        return x.reshape(len(x), *input_shape_of(self.input_shape, self.n_features_in_))

    def _learn(self, lesson: Lesson, X: Array, y: Array, weight: Array | None) -> None:
        """Train for as long as `fit` does; X, y and weight are for scikit-learn's callbacks."""
        samples, batch_size = len(lesson.rows.x), self._batch_size(lesson)
        early = bool(self.early_stopping)
        epochs = number_of_epochs(self.epochs, samples, batch_size, early)
        callbacks: list[Callback] = [self._early_stopping(samples)] if early else []
        steps = None if early else epochs * math.ceil(samples / batch_size)
        optimizer = make_optimizer(self.optimizer, self.learning_rate, self.alpha, steps)
        trainer = Trainer(self.model_, lesson.loss, optimizer, metrics=())
        context = begin_fit(self, epochs)
        if has_callbacks(self):
            metadata = None if weight is None else {"sample_weight": weight}
            callbacks.append(Following(self, context, {"X": X, "y": y, "metadata": metadata}))
        self._trainer = None  # that of `partial_fit`
        self._train(trainer, lesson, epochs, callbacks, self.validation_fraction if early else 0.0)

    def _learn_once(self, lesson: Lesson) -> None:
        """Train for one epoch, with the optimizer of the last `partial_fit`."""
        if self._trainer is None:
            optimizer = make_optimizer(self.optimizer, self.learning_rate, self.alpha, None)
            self._trainer = Trainer(self.model_, lesson.loss, optimizer, metrics=())
        self._train(self._trainer, lesson, 1)

    def _train(
        self, trainer: Trainer, lesson: Lesson, epochs: int, callbacks: list[Callback] | None = None, share: float = 0.0
    ) -> None:
        x, y, weight = self._scaled(lesson.rows.x), lesson.rows.y, lesson.rows.weight
        if len(x) == 1:  # the same twice: batch norm cannot train on one value of each channel
            x, y = np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)
        batch_size = self._batch_size(lesson)
        with on_few_threads(self.model_, batch_size):
            history = trainer.fit(
                x,
                y,
                epochs,
                max(batch_size, 2) if len(lesson.rows.x) == 1 else batch_size,
                callbacks=callbacks or (),
                seed=self._seed,
                verbose=bool(self.verbose),
                sample_weight=weight,
                validation_split=share,
            )
        self.history_ = history
        self.n_iter_ = trainer.epoch
        self.loss_curve_ += history.metrics.get("loss", [])
        if history.interrupted:  # what was learned can be used, but a search is not to go on with its next net
            raise KeyboardInterrupt

    def _batch_size(self, lesson: Lesson) -> int:
        return min(int(self.batch_size), len(lesson.rows.x))

    def _early_stopping(self, samples: int) -> EarlyStopping:
        if samples == 1:
            raise ValueError("early_stopping: expected two different samples or more, got 1 sample")
        return EarlyStopping("val_loss", int(self.n_iter_no_change), float(self.tol))

    def _outputs(self, X: Any) -> Array:
        """Return what the net makes of samples."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=REAL, reset=False)
        outputs = outputs_of(self.model_, self._scaled(X))
        if not np.isfinite(outputs).all():
            sample = int(np.isfinite(outputs).all(axis=1).argmin())
            got = f"values up to {np.abs(X[sample]).max():g} in sample {sample}"
            raise ValueError(mismatch("X", "values that the net can compute with", got))
        return outputs
