"""Learning rates that are reduced on a plateau: PyTorch's numbers, schedules, checkpoints."""

import numpy as np
import pytest
from small_fits import everything, make_trainer, scripted, small_data

from minitrain import optimizers, schedules
from minitrain.callbacks import ReduceLROnPlateau

LOSSES = [1.0, 0.9, 0.95, 0.93, 0.92, float("nan"), 0.91, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]


def rates_after(callback, values, rate=0.1):
    trainer = make_trainer(optimizer=optimizers.SGD(rate))
    scripted(trainer, values)
    data = small_data()
    rates = []
    callback_of_rates = type(callback).on_epoch_end

    def on_epoch_end(trainer, epoch, each):
        callback_of_rates(callback, trainer, epoch, each)
        rates.append(trainer.optimizer.learning_rate_at(trainer.steps))

    callback.on_epoch_end = on_epoch_end
    trainer.fit(*data, epochs=len(values), batch_size=50, validation_data=data, callbacks=[callback], verbose=False)
    return rates


@pytest.mark.parametrize(("patience", "cooldown", "min_lr"), [(1, 0, 0.0), (2, 0, 0.02), (2, 1, 0.0), (3, 2, 0.0)])
def test_the_same_rates_as_pytorch(patience, cooldown, min_lr):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, cooldown=cooldown, min_lr=min_lr, threshold=0.0,
        threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    expected = []
    for value in LOSSES:
        theirs.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    ours = ReduceLROnPlateau("val_loss", 0.5, patience, min_lr, cooldown)
    np.testing.assert_allclose(rates_after(ours, LOSSES), expected, rtol=1e-12)


def test_a_schedule_keeps_its_form():
    schedule = schedules.Cosine(0.1, 20)
    callback = ReduceLROnPlateau("val_loss", 0.5, 1)
    rates = rates_after(callback, [1.0, 1.0, 0.5, 0.4, 0.4], schedule)
    scales = [1.0, 0.5, 0.5, 0.5, 0.25]
    np.testing.assert_allclose(rates, [scale * schedule(i + 1) for i, scale in enumerate(scales)], rtol=1e-12)
    assert callback.scale == 0.25


def test_the_smallest_rate_does_not_lift_a_schedule():
    rate = schedules.Scaled(schedules.Step(1.0, every=1), 0.5, least=0.2)
    assert [rate(step) for step in range(3)] == pytest.approx([0.5, 0.1, 0.01])


def test_a_second_fit_goes_on_and_another_trainer_begins_anew():
    data = small_data()
    callback = ReduceLROnPlateau("loss", 0.5, 1, min_delta=10.0)
    trainer = make_trainer(optimizer=optimizers.SGD(0.01))
    for _ in range(3):
        trainer.fit(*data, epochs=1, callbacks=[callback], verbose=False)
    assert callback.scale == 0.25
    twin = make_trainer(optimizer=optimizers.SGD(0.01))
    twin.fit(*data, epochs=3, callbacks=[ReduceLROnPlateau("loss", 0.5, 1, min_delta=10.0)], verbose=False)
    assert everything(twin) == everything(trainer)
    make_trainer().fit(*data, epochs=1, callbacks=[callback], verbose=False)
    assert callback.scale == 1.0


@pytest.mark.parametrize("late", [False, True], ids=["before training", "after on_train_begin"])
def test_a_state_that_is_restored_goes_on(late):
    data = small_data()
    first = ReduceLROnPlateau("loss", 0.5, 1, min_delta=10.0)
    trainer = make_trainer(optimizer=optimizers.SGD(0.01))
    trainer.fit(*data, epochs=3, callbacks=[first], verbose=False)
    fresh = ReduceLROnPlateau("loss", 0.5, 1, min_delta=10.0)
    other = make_trainer(optimizer=optimizers.SGD(0.01))
    other.epoch, other.steps = trainer.epoch, trainer.steps
    if late:
        fresh.on_train_begin(other)
    fresh.restore_state(first.state())
    if not late:
        fresh.on_train_begin(other)
    assert fresh.state() == first.state()
    assert other.optimizer.learning_rate_at(99) == trainer.optimizer.learning_rate_at(99) == 0.0025
    for used in (fresh, first):  # nothing is multiplied twice
        used.on_train_begin(other)
        assert other.optimizer.learning_rate_at(99) == 0.0025


@pytest.mark.parametrize(
    ("name", "bad"),
    [("factor", 1.0), ("factor", 0), ("factor", float("nan")), ("patience", 0), ("patience", True), ("min_lr", -1),
     ("cooldown", -1), ("cooldown", 1.5), ("mode", "best")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        ReduceLROnPlateau(**{name: bad})
