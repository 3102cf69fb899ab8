"""Averages of the weights: PyTorch's numbers, what validation sees, what goes on, what a checkpoint keeps."""

import numpy as np
import pytest
from small_fits import small_data
from small_trainer import everything, make_trainer, small_net

from minitrain import optimizers
from minitrain.callbacks import ExponentialMovingAverage, LambdaCallback, StochasticWeightAverage

DATA = small_data()


def trainer_and_steps(callback, epochs=3, every="on_batch_end", validation=None):
    """Train; return the trainer, and parameters and state at each event."""
    seen = []

    def see(trainer, *rest):
        model = trainer.model
        seen.append({name: each.copy() for name, each in {**model.params, **model.state}.items()})

    trainer = make_trainer(optimizer=optimizers.Adam(0.05))
    watch = LambdaCallback(**{every: see})
    trainer.fit(
        *DATA, epochs=epochs, batch_size=16, callbacks=[callback, watch], validation_data=validation, verbose=False
    )
    return trainer, seen


def pytorch_average(seen, **options):
    torch = pytest.importorskip("torch")
    module = torch.nn.Module()
    for name, each in seen[0].items():
        module.register_buffer(name.replace(".", "_"), torch.tensor(each.astype("float64")))
    averaged = torch.optim.swa_utils.AveragedModel(module, use_buffers=True, **options)
    for values in seen:
        for name, each in values.items():
            getattr(module, name.replace(".", "_"))[...] = torch.tensor(each.astype("float64"))
        averaged.update_parameters(module)
    return {name: getattr(averaged.module, name.replace(".", "_")).numpy() for name in seen[0]}


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_ema_is_that_of_pytorch(decay):
    trainer, seen = trainer_and_steps(ExponentialMovingAverage(decay))
    torch = pytest.importorskip("torch")
    expected = pytorch_average(seen, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay))
    for name, each in {**trainer.model.params, **trainer.model.state}.items():
        if each.dtype.kind == "f":
            np.testing.assert_allclose(each, expected[name], rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(("start", "every", "epochs"), [(1, 1, [0, 1, 2, 3, 4]), (2, 2, [1, 3]), (5, 3, [4])])
def test_swa_is_that_of_pytorch(start, every, epochs):
    callback = StochasticWeightAverage(start, every)
    trainer, seen = trainer_and_steps(callback, 5, "on_epoch_end", DATA if every == 2 else None)
    assert callback.count == len(epochs)
    expected = pytorch_average([seen[epoch] for epoch in epochs])
    for name, each in {**trainer.model.params, **trainer.model.state}.items():
        if each.dtype.kind == "f":
            np.testing.assert_allclose(each, expected[name], rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("make", [lambda: ExponentialMovingAverage(0.8), lambda: StochasticWeightAverage(2)])
def test_training_is_not_changed_and_a_second_fit_goes_on(make):
    plain = make_trainer()
    plain.fit(*DATA, epochs=4, verbose=False)
    raw = []
    keep = LambdaCallback(on_epoch_end=lambda trainer, epoch, values: raw.append(everything(trainer)))
    once, twice = make(), make()
    trainer, other = make_trainer(), make_trainer()
    trainer.fit(*DATA, epochs=4, callbacks=[once, keep], validation_data=DATA, verbose=False)
    assert raw[-1] == everything(plain) != everything(trainer)
    for epochs in (1, 3):
        other.fit(*DATA, epochs=epochs, callbacks=[twice], verbose=False)
    assert everything(other) == everything(trainer)


def test_validation_sees_the_average():
    trainer = make_trainer()
    history = trainer.fit(
        *DATA, epochs=3, callbacks=[ExponentialMovingAverage(0.5)], validation_data=DATA, verbose=False
    )
    assert history.metrics["val_loss"][-1] == trainer.evaluate(*DATA)["loss"]


def test_the_average_can_stay_beside_the_model():
    plain, trainer = make_trainer(), make_trainer()
    callback = ExponentialMovingAverage(0.5, swap_at_end=False)
    with pytest.raises(ValueError, match="got none so far"):
        callback.average()
    plain.fit(*DATA, epochs=2, verbose=False)
    trainer.fit(*DATA, epochs=2, callbacks=[callback], verbose=False)
    assert everything(plain) == everything(trainer)
    assert callback.average()["params"].shape == trainer.model.flat_params.shape


@pytest.mark.parametrize("make", [lambda: ExponentialMovingAverage(0.8), lambda: StochasticWeightAverage(1)])
def test_a_state_that_is_restored_goes_on(make):
    whole, first, fresh = make(), make(), make()
    trainer, twin = make_trainer(), make_trainer()
    trainer.fit(*DATA, epochs=4, callbacks=[whole], verbose=False)
    twin.fit(*DATA, epochs=2, callbacks=[first], verbose=False)
    fresh.restore_state(first.state())  # with the average in the model, as at the end of a fit
    twin.fit(*DATA, epochs=2, callbacks=[fresh], verbose=False)
    assert everything(twin) == everything(trainer)
    assert np.array_equal(fresh.average()["params"], whole.average()["params"])


def test_a_validation_that_fails_leaves_what_was_trained():
    trainer = make_trainer(small_net())
    evaluate = trainer.evaluate_samples

    def fail(samples, batch_size):
        evaluate(samples, batch_size)
        raise OSError("gone")

    trainer.evaluate_samples = fail
    plain = make_trainer()
    plain.fit(*DATA, epochs=1, verbose=False)
    with pytest.raises(OSError, match="gone"):
        trainer.fit(
            *DATA, callbacks=[ExponentialMovingAverage(0.5, swap_at_end=False)], validation_data=DATA, verbose=False
        )
    assert everything(trainer) == everything(plain)
