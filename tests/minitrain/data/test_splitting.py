"""validation_split: what is held out, and that it is held out."""

import numpy as np
import pytest

from minitrain import Trainer, losses, models, optimizers
from minitrain.data.splitting import split

ROWS = np.arange(100)
LABELS = np.repeat([0, 1, 2, 3], [60, 30, 9, 1])


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["numbers", "classes"])
def test_every_sample_is_on_one_side(share, labels):
    training, validation = split(ROWS, share, 0, labels)
    assert sorted([*training, *validation]) == list(range(100))
    assert len(validation) == min(max(round(100 * share), 1), 99)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_classes_have_the_same_share_and_single_ones_are_trained_on(share):
    training, validation = split(ROWS, share, 3, LABELS)
    counts = np.bincount(LABELS[validation], minlength=4)
    assert (abs(counts - share * np.array([60, 30, 9, 1])) <= 1).all()
    assert 99 in training


def test_the_seed_decides():
    a, b, c = (split(ROWS, 0.2, seed, LABELS)[1].tolist() for seed in (0, 0, 1))
    assert a == b != c


def test_two_samples_are_the_least():
    assert [len(each) for each in split(np.arange(2), 0.01, 0)] == [1, 1]
    with pytest.raises(ValueError, match="validation_split"):
        split(np.arange(1), 0.5, 0)


def test_a_fit_validates_on_what_it_does_not_train_on():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 4)).astype("float32"), rng.integers(0, 2, 50)
    w = rng.uniform(0.5, 2, 50)
    a, b = (Trainer(models.mlp((4,), 2, hidden=(8,), seed=0), losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
            for _ in range(2))  # fmt: skip
    a.fit(x, y, epochs=3, validation_split=0.2, sample_weight=w, seed=5, verbose=False)
    training, held = split(np.arange(50), 0.2, 5, y)
    b.fit(x[training], y[training], epochs=3, validation_data=(x[held], y[held], w[held]), sample_weight=w[training],
          seed=5, verbose=False)  # fmt: skip
    assert a.model.flat_params.tobytes() == b.model.flat_params.tobytes()
    assert a.history.metrics["val_loss"] == b.history.metrics["val_loss"]


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, "0.1", True, float("nan")])
def test_a_share_is_from_zero_to_one(share):
    trainer = Trainer(models.mlp((4,), 2, hidden=(8,)), losses.SoftmaxCrossEntropy(), optimizers.SGD())
    with pytest.raises((ValueError, TypeError), match="validation_split"):
        trainer.fit(np.zeros((9, 4)), np.zeros(9, int), validation_split=share, verbose=False)
    data = np.zeros((9, 4)), np.zeros(9, int)
    with pytest.raises(ValueError, match="validation_data"):
        trainer.fit(*data, validation_split=0.5, validation_data=data, verbose=False)
