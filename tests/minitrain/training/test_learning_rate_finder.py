"""The learning-rate finder: what it leaves as it was, where it stops, what it suggests."""

import numpy as np
import pytest
from small_fits import small_data
from small_trainer import everything, make_trainer, small_net

from minitrain import LearningRateFinder, callbacks, optimizers
from minitrain.training.learning_rate_finder import _longest_fall
from minitrain.training.trainer import NonFiniteLossError

DATA = small_data()


def of_everything(trainer):
    counted = (trainer.steps, trainer.epoch, trainer.stop_requested, trainer.optimizer, trainer.history)
    return [*everything(trainer), trainer.model.flat_gradients.tobytes(), *counted]


@pytest.mark.parametrize("optimizer", [optimizers.Adam(0.01), optimizers.SGD(0.1, momentum=0.9), optimizers.RMSprop()])
def test_everything_is_as_it_was(optimizer):
    trainer, twin = (make_trainer(small_net(dropout=True), optimizer) for _ in range(2))
    for each in (trainer, twin):
        each.fit(*DATA, epochs=1, batch_size=16, verbose=False)
    before = of_everything(trainer)
    found = trainer.find_learning_rate(*DATA, batch_size=16, end=100.0)
    assert of_everything(trainer) == before
    assert len(found.rates) == len(found.losses) == len(found.smoothed) > 10
    for each in (trainer, twin):
        each.fit(*DATA, epochs=2, batch_size=16, verbose=False)
    assert everything(trainer) == everything(twin)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_everything_is_as_it_was_after_an_error_too(error, monkeypatch):
    trainer = make_trainer()
    before, learn = of_everything(trainer), trainer.learn

    def fail(*arguments):
        if trainer.steps == 5:
            raise error("here")
        return learn(*arguments)

    trainer.learn = fail
    with pytest.raises(error, match="here"):
        trainer.find_learning_rate(*DATA)
    assert of_everything(trainer) == before


def test_the_ramp_and_the_smoothing():
    found = make_trainer().find_learning_rate(*DATA, start=1e-4, end=1e-2, steps=21, smoothing=0.9, batch_size=25)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e-2, 21), rtol=1e-12)
    assert not found.diverged
    weights = [0.9 ** (20 - i) for i in range(21)]
    assert found.smoothed[-1] == pytest.approx(np.average(found.losses, weights=weights))
    assert found.rates[0] < found.suggestion < found.rates[-1]


def test_it_stops_where_training_diverges():
    trainer = make_trainer(optimizer=optimizers.SGD())
    found = trainer.find_learning_rate(*DATA, end=1e20, smoothing=0.5)
    assert found.diverged
    assert len(found.rates) < 100
    assert np.isfinite(found.losses).all()


def test_data_that_are_not_finite_are_no_matter_of_rates():
    trainer = make_trainer()
    before = of_everything(trainer)
    with pytest.raises(NonFiniteLossError):
        trainer.find_learning_rate(np.full((50, 6), np.nan), DATA[1])
    assert of_everything(trainer) == before


def test_suggestions():
    rates = [10.0**i for i in range(-30, 0)]
    valley = [2.0] * 10 + [2.0 - 0.1 * i for i in range(15)] + [1.0, 2.0, 3.0, 4.0, 5.0]
    assert LearningRateFinder(rates, valley, valley, True).suggestion == pytest.approx(1e-14, rel=1e3)
    flat = [1.0] * 30
    assert LearningRateFinder(rates, flat, flat, False).suggestion is None
    assert LearningRateFinder([], [], [], True).suggestion is None
    assert _longest_fall([3.0, 1.0, 2.0, 1.5, 1.7, 0.5]) == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("start", 0), ("start", "a"), ("end", 1e-9), ("steps", 1), ("steps", 2.5), ("batch_size", 0), ("smoothing", 1.0),
     ("stop_factor", 1.0), ("seed", -1)],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        make_trainer().find_learning_rate(*DATA, **{name: bad})


def test_not_within_a_fit():
    search = callbacks.LambdaCallback(on_epoch_end=lambda trainer, *rest: trainer.find_learning_rate(*DATA))
    with pytest.raises(RuntimeError, match="in the middle of a fit"):
        make_trainer().fit(*DATA, callbacks=[search], verbose=False)


def test_picture_and_words(tmp_path):
    pytest.importorskip("matplotlib")
    found = make_trainer().find_learning_rate(*DATA, batch_size=16)
    figure = found.plot(tmp_path / "rates.svg")
    assert figure.axes[0].get_xscale() == "log"
    assert "<svg" in (tmp_path / "rates.svg").read_text()
    assert found._repr_html_().startswith("<svg")
    assert repr(found).startswith("LearningRateFinder(suggestion ")
    assert repr(LearningRateFinder([], [], [], False)) == "LearningRateFinder(nothing measured)"
