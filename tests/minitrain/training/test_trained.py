"""Copies and pickles of trainers go on where the original was, and share nothing with it."""

import copy
import pickle

import numpy as np
import pytest
from small_trainer import everything, make_trainer, small_net

from minitrain import Trainer, callbacks, losses, metrics, optimizers, schedules

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 6)).astype("f4"), RNG.integers(0, 3, 40)
FIT = {"epochs": 2, "batch_size": 16, "verbose": False}


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def pickled_beside(thing):
    """As joblib and others do: the arrays outside, and read-only."""
    buffers = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(each.raw()) for each in buffers])


WAYS = pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, pickled_beside])


@WAYS
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.Adam(schedules.Cosine(0.01, 40)),
        optimizers.SGD(0.1, momentum=0.9, nesterov=True, l2=1e-3),
        optimizers.RMSprop(0.01, centered=True, momentum=0.5, clip_norm=1.0),
    ],
)
def test_three_more_steps_are_those_of_the_original(duplicate, optimizer):
    trainer = make_trainer(small_net(dropout=True), optimizer)
    trainer.fit(X, Y, validation_data=(X, Y), **FIT)
    again = duplicate(trainer)
    assert type(again) is Trainer
    assert everything(again) == everything(trainer)
    assert (again.steps, again.epoch, again.history) == (trainer.steps, trainer.epoch, trainer.history)
    assert again.optimizer == trainer.optimizer
    before = everything(again)
    for _ in range(3):
        trainer.step(X[:7], Y[:7])
    assert everything(again) == before
    for _ in range(3):
        again.step(X[:7], Y[:7])
    assert everything(again) == everything(trainer)
    assert again.evaluate(X, Y) == trainer.evaluate(X, Y)
    again.fit(X, Y, **FIT)
    trainer.fit(X, Y, **FIT)
    assert everything(again) == everything(trainer)


@WAYS
def test_what_is_together_stays_together(duplicate):
    trainer = make_trainer(metrics={"best two": metrics.TopK(2)})
    model, again = duplicate([trainer.model, trainer])
    assert again.model is model
    model.flat_params = np.zeros_like(model.flat_params)
    assert again.evaluate(X, Y).keys() == {"loss", "best two"}
    assert again.evaluate(X, Y)["loss"] == pytest.approx(np.log(3), rel=1e-6)
    assert duplicate(trainer).history is None


@WAYS
@pytest.mark.parametrize("event", ["on_batch_end", "on_batch_begin", "on_epoch_end"])
def test_copies_made_while_fit_runs(duplicate, event):
    whole, kept = make_trainer(small_net(dropout=True)), {}

    def keep(trainer, *_):
        if trainer.steps == 3:
            kept["trainer"], kept["model"] = duplicate(trainer), duplicate(trainer.model)

    trainer = make_trainer(small_net(dropout=True))
    trainer.fit(X, Y, callbacks=[callbacks.LambdaCallback(**{event: keep})], **FIT)
    whole.fit(X, Y, **FIT)
    assert everything(trainer) == everything(whole)
    again = kept["trainer"]
    assert again.steps == 3
    np.testing.assert_array_equal(again.model.flat_params, kept["model"].flat_params)
    assert not np.array_equal(again.model.flat_params, trainer.model.flat_params)
    if event == "on_epoch_end":
        again.fit(X, Y, **{**FIT, "epochs": 1})
        assert everything(again) == everything(whole)


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match=r"a shallow copy of a Trainer would share its arrays: write copy\.deepcopy"):
        copy.copy(make_trainer())


def test_another_version():
    with pytest.raises(ValueError, match="this Trainer was pickled by another version of minitrain"):
        Trainer.__new__(Trainer).__setstate__({"version": 0})


@WAYS
def test_other_parts(duplicate):
    """What a user may want to keep beside a trainer."""
    for thing in (
        losses.SoftmaxCrossEntropy(label_smoothing=0.1),
        schedules.LinearWarmup(3, schedules.Cosine(0.1, 10)),
        optimizers.AdamW(0.1),
    ):
        assert duplicate(thing) == thing
    stopping = duplicate(callbacks.EarlyStopping("loss", patience=1))
    make_trainer().fit(X, Y, callbacks=[stopping], **FIT)
