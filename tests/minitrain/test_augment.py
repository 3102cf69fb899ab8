"""Augmentation: what each does, and that it depends on seed, epoch and sample alone."""

from dataclasses import dataclass

import numpy as np
import pytest
from small_trainer import everything

from minitrain import Trainer, augment, callbacks, losses, models, optimizers
from minitrain.augment import Augmentation
from minitrain.data.augmented import uniform

rng = np.random.default_rng(0)
X = rng.random((24, 2, 6, 5)).astype("float32")
Y = rng.integers(0, 3, 24)
ALL = [augment.Flip(), augment.Flip(horizontal=False, vertical=True), augment.Shift(2), augment.Shift((0, 3), fill=0.5),
       augment.Rotation(30), augment.Cutout(3), augment.Mixup(0.4)]  # fmt: skip


def draws(*rows):
    return np.array(rows, float)


def trainer_of(seed=0):
    model = models.mlp((2, 6, 5), 3, hidden=(8,), norm=None, seed=seed)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))


# ----------------------------------------------------------------------------------------------------- what each does


def test_flip():
    got = augment.Flip().apply(X.copy(), draws(*[[0.4, 0.0]] * 12, *[[0.6, 0.0]] * 12))
    np.testing.assert_array_equal(got[:12], X[:12, :, :, ::-1])
    np.testing.assert_array_equal(got[12:], X[12:])
    got = augment.Flip(vertical=True, p=1.0).apply(X.copy(), np.zeros((24, 2)))
    np.testing.assert_array_equal(got, X[:, :, ::-1, ::-1])
    np.testing.assert_array_equal(augment.Flip(p=0.0).apply(X.copy(), np.zeros((24, 2))), X)


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_shift(fill):
    for down in (-2, -1, 0, 1, 2):
        for right in (-1, 0, 1):
            numbers = [(down + 2.5) / 5, (right + 1.5) / 3]
            got = augment.Shift((2, 1), fill=fill).apply(X.copy(), draws(*[numbers] * 24))
            padded = np.pad(X, ((0, 0), (0, 0), (2, 2), (1, 1)), constant_values=np.float32(fill))
            np.testing.assert_array_equal(got, padded[:, :, 2 - down : 8 - down, 1 - right : 6 - right])


def test_rotation():
    square = rng.random((4, 1, 7, 7))
    turn = augment.Rotation(180).apply
    np.testing.assert_allclose(turn(square, draws(*[[0.5]] * 4)), square, atol=1e-12)
    np.testing.assert_allclose(turn(square, draws(*[[0.0]] * 4)), square[:, :, ::-1, ::-1], atol=1e-12)
    quarter = turn(square, draws(*[[0.75]] * 4))
    assert np.allclose(quarter, np.rot90(square, 1, (2, 3)), atol=1e-12)
    assert augment.Rotation(45, fill=0.25).apply(square * 0 + 0.25, draws(*[[0.9]] * 4)) == pytest.approx(0.25)


def test_rotation_against_scipy():
    from scipy import ndimage

    image = rng.random((1, 1, 9, 9))
    got = augment.Rotation(20).apply(image.copy(), draws([1 - 1e-16]))
    expected = ndimage.rotate(image[0, 0], 20, reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(got[0, 0], expected, atol=1e-9)


def test_cutout():
    got = augment.Cutout(3, fill=9.0).apply(X.copy(), draws(*[[2.5 / 6, 2.5 / 5]] * 24))
    expected = X.copy()
    expected[:, :, 1:4, 1:4] = 9.0
    np.testing.assert_array_equal(got, expected)
    corner = augment.Cutout(2, fill=9.0).apply(X.copy(), np.zeros((24, 2)))
    assert (corner[:, :, 0, 0] == 9.0).all()
    assert (corner[:, :, 1:, 1:] == X[:, :, 1:, 1:]).all()


def test_mixup_shares():
    mix = augment.Mixup(0.3)
    numbers = np.random.default_rng(1).random((4000, 2))
    shares = mix.shares(numbers)
    assert shares.min() >= 0.5
    assert shares.max() <= 1.0
    drawn = np.random.default_rng(2).beta(0.3, 0.3, 4000)
    assert shares.mean() == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.01)
    assert set(mix.partners(numbers, 5)) == {0, 1, 2, 3, 4}


def test_mixup_trains_on_mixed_targets():
    seen = []

    class Kept(losses.SoftmaxCrossEntropy):
        def __call__(self, outputs, targets, gradient=None):
            if gradient is not None:
                seen.append(np.array(targets))
            return super().__call__(outputs, targets, gradient)

    trainer = Trainer(models.mlp((2, 6, 5), 3, hidden=(8,), seed=0), Kept(), optimizers.SGD(0.1), metrics=())
    trainer.fit(X, Y, batch_size=24, shuffle=False, augment=[augment.Mixup(1.0)], verbose=False)
    (targets,) = seen
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-6)
    assert (targets.argmax(axis=1) == Y).all()
    assert (targets.max(axis=1) < 1.0).any()


# -------------------------------------------------------------------------------------------- what it depends on


def test_uniform_numbers_are_uniform_and_a_function_of_each_index():
    numbers = uniform((3, 1, 0), np.arange(50_000), 2)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    counts = np.histogram2d(*numbers.T, bins=10)[0]
    assert abs(counts - 500).max() < 5 * np.sqrt(500)
    some = np.array([7, 40_000, 3])
    np.testing.assert_array_equal(uniform((3, 1, 0), some, 2), numbers[some])
    for other in ((4, 1, 0), (3, 2, 0), (3, 1, 1), (1, 3, 0), (2**70 + 1, 1, 0)):
        assert abs(np.corrcoef(uniform(other, np.arange(50_000), 1)[:, 0], numbers[:, 0])[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ALL, ids=repr)
def test_batches_and_order_do_not_matter(kind):
    """One update of the whole set, cut and ordered as one likes, has the same gradients."""
    results = []
    for options in ({"batch_size": 24, "shuffle": False}, {"batch_size": 5, "accumulate": 5}):
        trainer = trainer_of()
        trainer.fit(X, Y, seed=3, augment=[augment.Shift(1), kind], verbose=False, **options)
        results.append(trainer.model.flat_params.copy())
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)
    plain = trainer_of()
    plain.fit(X, Y, seed=3, batch_size=24, shuffle=False, verbose=False)
    assert not np.allclose(results[0], plain.model.flat_params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batches", [False, True], ids=["arrays", "batches"])
def test_a_resumed_run_is_the_uninterrupted_one(batches):
    class Stop(callbacks.Callback):
        def on_batch_end(self, trainer, batch, loss):
            if trainer.steps == 4:
                raise KeyboardInterrupt

    data = ([(X[k : k + 8], Y[k : k + 8]) for k in range(0, 24, 8)],) if batches else (X, Y)
    whole, broken = trainer_of(), trainer_of()
    whole.fit(*data, epochs=3, batch_size=8, augment=ALL, verbose=False)
    broken.fit(*data, epochs=3, batch_size=8, augment=ALL, callbacks=[Stop()], verbose=False)
    assert broken.steps == 4
    broken.fit(*data, epochs=2, batch_size=8, augment=ALL, verbose=False)
    assert everything(whole) == everything(broken)


def test_epochs_and_seeds_differ():
    trainer = Trainer(models.mlp((2, 6, 5), 3, hidden=(8,), norm=None), losses.SoftmaxCrossEntropy(), optimizers.SGD(0))
    values = []
    for seed in (0, 0, 1):
        trainer.epoch = 0
        trainer.fit(X, Y, epochs=2, seed=seed, shuffle=False, augment=[augment.Rotation(40)], verbose=False)
        values.append(trainer.history.metrics["loss"])
    assert values[0] == values[1]
    assert len({*values[0], *values[2]}) == 4


def test_validation_sees_pictures_as_they_are():
    trainer = trainer_of()
    trainer.fit(X, Y, augment=ALL, validation_data=(X, Y), verbose=False)
    assert trainer.evaluate(X, Y)["loss"] == trainer.history.metrics["val_loss"][0]
    before = X.copy()
    trainer.fit(X, Y, augment=ALL, validation_split=0.3, sample_weight=rng.random(24), verbose=False)
    np.testing.assert_array_equal(X, before)


def test_bytes_are_augmented_as_floats():
    x = (X * 255).astype("uint8")
    a, b = trainer_of(), trainer_of()
    a.fit(x, Y, augment=ALL, verbose=False)
    b.fit(x.astype("float32"), Y, augment=ALL, verbose=False)
    assert everything(a) == everything(b)


@dataclass(frozen=True)
class Brightness(Augmentation):
    most: float = 0.2

    def apply(self, x, draws):
        return x + self.most * (2 * draws[:, :1, None, None] - 1)


def test_one_of_ones_own():
    trainer = trainer_of()
    trainer.fit(X, Y, augment=[Brightness()], verbose=False)
    assert trainer.steps == 1

    class Smaller(Augmentation):
        def apply(self, x, draws):
            return x[:, :, 1:]

    with pytest.raises(ValueError, match="apply: expected an array of shape"):
        trainer.fit(X, Y, augment=[Smaller()], verbose=False)


@pytest.mark.parametrize("given", ["flip", [augment.Flip], [1], None, {"flip": 1}, [np.fliplr]])
def test_what_is_no_augmentation_is_refused(given):
    with pytest.raises(TypeError, match="augment: expected"):
        trainer_of().fit(X, Y, augment=given, verbose=False)


def test_pictures_are_needed_for_what_changes_pictures():
    trainer = Trainer(models.mlp((4,), 3, hidden=(8,)), losses.SoftmaxCrossEntropy(), optimizers.SGD())
    with pytest.raises(ValueError, match=r"\(C, H, W\) for Flip"):
        trainer.fit(X[:, 0, 0, :4], Y, augment=[augment.Flip()], verbose=False)
    trainer.fit(X[:, 0, 0, :4], Y, augment=[augment.Mixup()], verbose=False)


@pytest.mark.parametrize(
    "make",
    [lambda: augment.Flip(False), lambda: augment.Flip(p=1.5), lambda: augment.Shift(-1), lambda: augment.Shift(1.5),
     lambda: augment.Rotation("9"), lambda: augment.Cutout(0), lambda: augment.Mixup(0), lambda: augment.Flip("yes")],
)  # fmt: skip
def test_settings_are_checked(make):
    with pytest.raises((ValueError, TypeError)):
        make()
