"""Several averages of the same batch statistics, and the one that validates best."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, callbacks, layers, losses, models, optimizers
from minitrain.callbacks import Checkpoint, TuneRunningStatistics
from minitrain.checkpoint import load_checkpoint

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3)) * 2 + np.arange(3)
Y = (X[:, 0] > X[:, 1]).astype(int)
DATA = {"validation_data": (X[:20], Y[:20]), "verbose": False, "shuffle": False}


def trainer_of(dtype="float64", **norm):
    x = Input((3,))
    h = layers.ReLU()(layers.BatchNorm(**norm)(layers.Dense(8)(x)))
    return Trainer(
        Model(x, layers.Dense(2)(h), seed=1, dtype=dtype), losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01)
    )


def fit(trainer, tune, epochs=2, **more):
    trainer.fit(X, Y, epochs, 10, callbacks=[tune], **DATA | more)


class Batches(callbacks.Callback):
    """The batch statistics of a layer with momentum 1: its running ones after each step."""

    def __init__(self):
        self.means, self.variances = [], []

    def on_batch_end(self, trainer, batch, loss):
        self.means.append(trainer.model.state["bn1.running_mean"].copy())
        self.variances.append(trainer.model.state["bn1.running_var"].copy())


@pytest.mark.parametrize("period", [1.0, 4.0, 30.0, None])
def test_an_average_is_the_weighted_mean_of_the_batches(period):
    trainer, batches = trainer_of(momentum=1.0), Batches()
    tune = TuneRunningStatistics([period])
    trainer.fit(X, Y, 2, 10, callbacks=[batches, tune], **DATA)
    weights = np.ones(12)
    if period is not None:
        weights = (1 - 2 / (period + 1)) ** np.arange(11, -1, -1.0)
    assert tune.chosen == [period] * 2
    for name, each in (("mean", batches.means), ("var", batches.variances)):
        expected = np.average(each, axis=0, weights=weights)
        np.testing.assert_allclose(trainer.model.state[f"bn1.running_{name}"], expected, rtol=1e-10)


@pytest.mark.parametrize("norm", [{}, {"momentum": None}, {"debias": True}, {"ghost_size": 5}])
def test_the_best_is_taken_and_the_weights_are_those_without_it(norm):
    trainer, plain = trainer_of(**norm), trainer_of(**norm)
    tune = TuneRunningStatistics((2, 20, None), precise=X[20:])
    fit(trainer, tune)
    plain.fit(X, Y, 2, 10, **DATA)
    np.testing.assert_array_equal(trainer.model.flat_params, plain.model.flat_params)
    assert list(tune.losses) == ["precise", 2.0, 20.0, None]
    assert tune.losses[tune.chosen[-1]] == min(tune.losses.values())
    assert trainer.evaluate(X[:20], Y[:20])["loss"] == min(tune.losses.values())
    assert trainer.history.metrics["val_loss"][-1] == min(tune.losses.values())


def test_fused_norms_and_accumulated_batches():
    model = models.lenet((1, 12, 12), 2, norm="before", seed=0)
    images = RNG.standard_normal((40, 1, 12, 12))
    labels = np.arange(40) % 2
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.0))
    tune = TuneRunningStatistics([None])
    trainer.fit(images, labels, 1, 10, accumulate=2, validation_data=(images, labels), verbose=False, callbacks=[tune])
    first = min(name for name in model.state if name.endswith("running_mean"))  # of what the weights alone change
    found = model.state[first].copy()
    trainer.calibrate(images)
    np.testing.assert_allclose(found, model.state[first], rtol=1e-4, atol=1e-6)


def test_norms_whose_training_reads_running_statistics_keep_their_own():
    for norm in ({"threshold": 2.0}, {"renorm": (3.0, 5.0)}):
        trainer, plain = trainer_of(**norm), trainer_of(**norm)
        fit(trainer, TuneRunningStatistics((2, 20)))
        plain.fit(X, Y, 2, 10, **DATA)
        np.testing.assert_array_equal(trainer.model.flat_state, plain.model.flat_state)


def test_a_resumed_training_is_the_whole_one(tmp_path):
    pytest.importorskip("safetensors")
    whole, tune = trainer_of(), TuneRunningStatistics((2, 20, None))
    fit(whole, tune, 4)
    first = trainer_of()
    first.fit(X, Y, 2, 10, callbacks=[TuneRunningStatistics((2, 20, None)), Checkpoint(tmp_path / "run")], **DATA)
    resumed = load_checkpoint(tmp_path / "run", losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
    again = TuneRunningStatistics((2, 20, None))
    resumed.fit(X, Y, 2, 10, callbacks=[again, Checkpoint(tmp_path / "more")], **DATA)
    np.testing.assert_array_equal(resumed.model.flat_state, whole.model.flat_state)
    assert again.chosen == tune.chosen


def test_what_it_needs_is_seen_before_anything_is_trained():
    trainer = trainer_of()
    with pytest.raises(ValueError, match="expected a fit with validation_data"):
        trainer.fit(X, Y, 1, 10, callbacks=[TuneRunningStatistics()], verbose=False)
    with pytest.raises(ValueError, match="x: expected"):
        fit(trainer, TuneRunningStatistics(precise=X[:, :2]))
    assert trainer.steps == 0
    with pytest.raises(RuntimeError, match="validate: expected a fit"):
        trainer.validate()


@pytest.mark.parametrize("periods", [(), "10", 10, (10, 10.0), (0.5,), ("a",), (True,)])
def test_other_periods_are_refused(periods):
    with pytest.raises((ValueError, TypeError), match="periods"):
        TuneRunningStatistics(periods)


def test_repr():
    assert repr(TuneRunningStatistics((10, None), X)) == (
        "TuneRunningStatistics(periods=(10.0, None), precise=..., batch_size=256)"
    )
