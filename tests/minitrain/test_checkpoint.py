"""Checkpoints: the same bits after them, and nothing changed by those that are refused."""

import numpy as np
import pytest
from small_fits import everything, make_trainer, scripted, small_data

from minitrain import Model, Trainer, losses, models, optimizers
from minitrain.callbacks import Checkpoint, LambdaCallback
from minitrain.checkpoint import load_checkpoint, restore, save_checkpoint
from minitrain.training.trainer import NonFiniteLossError

pytest.importorskip("safetensors")


@pytest.fixture
def data():
    return small_data()


@pytest.mark.parametrize("optimizer", [optimizers.Adam(0.01), optimizers.SGD(0.1), optimizers.RMSprop(momentum=0.5)])
def test_resumed_run_gives_the_same_bits(data, tmp_path, optimizer):
    path = tmp_path / "run.safetensors"
    whole, first = make_trainer(optimizer=optimizer), make_trainer(optimizer=optimizer)
    whole.fit(*data, epochs=4, batch_size=16, verbose=False)
    first.fit(*data, epochs=2, batch_size=16, callbacks=[Checkpoint(path)], verbose=False)
    resumed = load_checkpoint(path, losses.SoftmaxCrossEntropy(), optimizer)
    assert (resumed.epoch, resumed.steps) == (2, 8)
    history = resumed.fit(*data, epochs=2, batch_size=16, verbose=False)
    assert history.epochs == [3, 4]
    assert everything(resumed) == everything(whole)


def test_checkpoint_is_a_model_file(data, tmp_path):
    trainer = make_trainer()
    trainer.step(*data)
    save_checkpoint(trainer, tmp_path / "c.safetensors")
    assert np.array_equal(Model.load(tmp_path / "c.safetensors").flat_params, trainer.model.flat_params)


def test_a_refused_checkpoint_changes_nothing(data, tmp_path):
    path, sgd = tmp_path / "c.safetensors", optimizers.SGD(0.1)
    save_checkpoint(make_trainer(1, sgd), path)
    other = Trainer(models.mlp((6,), 4, hidden=(8,), seed=2), losses.SoftmaxCrossEntropy(), sgd)
    before = everything(other)
    with pytest.raises(ValueError, match=r"head.*: expected float32 \("):
        restore(other, path)
    assert everything(other) == before


def test_checkpoint_path_may_carry_the_epoch(data, tmp_path):
    make_trainer().fit(*data, epochs=2, callbacks=[Checkpoint(tmp_path / "{epoch}.safetensors")], verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


def test_best_checkpoint_is_kept(data, tmp_path):
    path = tmp_path / "best.safetensors"
    trainer = make_trainer()
    scripted(trainer, [1.0, 0.5, 0.7, float("nan")])
    callback = Checkpoint(path, best_only=True)
    trainer.fit(*data, epochs=4, validation_data=data, callbacks=[callback], verbose=False)
    assert callback.best == 0.5
    assert load_checkpoint(path, trainer.loss, trainer.optimizer).epoch == 2
    before = path.read_bytes()
    scripted(trainer, [0.6])
    trainer.fit(*data, validation_data=data, callbacks=[Checkpoint(path, best_only=True, best=0.5)], verbose=False)
    assert path.read_bytes() == before


def test_last_good_checkpoint_survives_nan(data, tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()

    def spoil(trainer, epoch, values):
        if epoch == 2:
            trainer.model.params["head.weight"][...] = np.nan

    callbacks = [LambdaCallback(on_epoch_end=spoil), Checkpoint(path)]
    with pytest.raises(NonFiniteLossError, match=r"head\.weight"), pytest.warns(UserWarning, match="not finite"):
        trainer.fit(*data, epochs=5, callbacks=callbacks, verbose=False)
    kept = load_checkpoint(path, trainer.loss, trainer.optimizer)
    assert kept.epoch == 1
    assert np.isfinite(kept.model.flat_params).all()


def test_checkpoint_of_something_else_is_refused_and_changes_nothing(data, tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()
    trainer.fit(*data, verbose=False)
    save_checkpoint(trainer, path)
    other = make_trainer(seed=1, optimizer=optimizers.SGD(0.1, momentum=0.9))
    before = everything(other)
    with pytest.raises(ValueError, match=r"saved by Adam with \['mean', 'square'\], got SGD with \['velocity'\]"):
        restore(other, path)
    assert everything(other) == before
    trainer.model.save(path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        restore(trainer, path)
    path.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        restore(trainer, path)
    wide = models.mlp((6,), 3, hidden=(9,))
    save_checkpoint(Trainer(wide, trainer.loss, trainer.optimizer), path)
    with pytest.raises(ValueError, match="expected float32"):
        restore(trainer, path)
