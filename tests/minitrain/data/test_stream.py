"""Iterables of batches: in fit, in validation, in evaluate; and what is none."""

import numpy as np
import pytest
from small_trainer import everything

from minitrain import Input, Model, Trainer, callbacks, layers, losses, models, optimizers

rng = np.random.default_rng(0)
X = rng.standard_normal((50, 4)).astype("float32")
Y = rng.integers(0, 3, 50)
W = rng.uniform(0.2, 2.0, 50)


def trainer_of(norm=None):
    model = models.mlp((4,), 3, hidden=(8,), norm=norm, seed=0)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))


def cut(*arrays, size=16):
    return [tuple(each[k : k + size] for each in arrays) for k in range(0, len(arrays[0]), size)]


class Known:
    """Has a length."""

    def __init__(self, batches):
        self.batches, self.epochs = batches, []

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


class Unknown:
    """A generator anew each time."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        yield from self.batches


class Indexed:
    """As Keras's sequences are: a length, and items that do not say where they end."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index % len(self.batches)]


class Old:
    """Items until IndexError."""

    def __init__(self, batches):
        self.batches = batches

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.parametrize("kind", [list, tuple, Known, Unknown, Indexed, Old])
def test_batches_are_trained_on_as_they_come(kind):
    arrays, given = trainer_of(), trainer_of()
    arrays.fit(X, Y, epochs=3, batch_size=16, shuffle=False, validation_data=(X, Y), verbose=False)
    given.fit(kind(cut(X, Y)), epochs=3, validation_data=kind(cut(X, Y, size=256)), verbose=False)
    assert everything(arrays) == everything(given)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert given.history.metrics[name] == pytest.approx(arrays.history.metrics[name], rel=1e-12)
    assert given.evaluate(kind(cut(X, Y, size=256))) == pytest.approx(arrays.evaluate(X, Y), rel=1e-12)


def test_set_epoch_is_told_the_number_of_the_epoch():
    known = Known(cut(X, Y))
    trainer = trainer_of()
    trainer.fit(known, epochs=2, verbose=False)
    trainer.fit(known, epochs=1, verbose=False)
    trainer.evaluate(known)
    assert known.epochs == [1, 2, 3]


def test_a_data_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=16)
    shuffled = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    a, b = trainer_of(), trainer_of()
    a.fit(loader, epochs=2, validation_data=loader, verbose=False)
    b.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=False)
    assert everything(a) == everything(b)
    torch.manual_seed(3)
    c, d = trainer_of(), trainer_of()
    c.fit(shuffled, epochs=2, verbose=False)
    torch.manual_seed(3)
    for _ in range(2):
        for x, y in shuffled:
            d.step(x, y)
    assert c.model.flat_params.tobytes() == d.model.flat_params.tobytes()  # no batch was asked for only to be looked at
    weighted = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y), torch.tensor(W))
    a.fit(torch.utils.data.DataLoader(weighted, batch_size=16), verbose=False)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_batches_of_other_types(dtype):
    x = (X * 10).astype(dtype)
    a, b = trainer_of(), trainer_of()
    a.fit(cut(x, Y), verbose=False)
    b.fit(x.astype("float32"), Y, batch_size=16, shuffle=False, verbose=False)
    assert everything(a) == everything(b)


def test_batches_with_weights_are_steps_with_weights():
    a, b = trainer_of(), trainer_of()
    a.fit(cut(X, Y, W), verbose=False)
    for x, y, w in cut(X, Y, W):
        b.step(x, y, sample_weight=w)
    assert a.model.flat_params.tobytes() == b.model.flat_params.tobytes()
    assert a.evaluate(cut(X, Y, W)) == pytest.approx(a.evaluate(X, Y, sample_weight=W), rel=1e-6)
    c = trainer_of()
    c.fit(cut(X, Y), class_weight={1: 3.0}, verbose=False)
    d = trainer_of()
    d.fit(cut(X, Y, np.where(Y == 1, 3.0, 1.0)), verbose=False)
    assert c.model.flat_params.tobytes() == d.model.flat_params.tobytes()


@pytest.mark.parametrize("weights", [(), (W,)], ids=["plain", "weighted"])
def test_accumulated_batches_are_one(weights):
    a, b = trainer_of(), trainer_of()
    a.fit(cut(X, Y, *weights, size=5), accumulate=4, verbose=False)
    b.fit(cut(X, Y, *weights, size=20), verbose=False)
    np.testing.assert_allclose(a.model.flat_params, b.model.flat_params, rtol=1e-3, atol=1e-5)
    assert a.steps == b.steps == 3


@pytest.mark.parametrize("weights", [(), (W,)], ids=["plain", "weighted"])
def test_a_last_single_sample_joins_the_batch_before(weights):
    """Batch norm of vectors cannot train on one."""
    parts = [each[:33] for each in (X, Y, *weights)]
    a, b = trainer_of("before"), trainer_of("before")
    a.fit(Unknown(cut(*parts)), epochs=2, verbose=False)
    b.fit([tuple(each[:16] for each in parts), tuple(each[16:] for each in parts)], epochs=2, verbose=False)
    assert everything(a) == everything(b)


def test_a_generator_is_for_one_epoch():
    a, b = trainer_of(), trainer_of()
    a.fit((each for each in cut(X, Y)), verbose=False)
    b.fit(cut(X, Y), verbose=False)
    assert everything(a) == everything(b)
    for one_shot in ((each for each in cut(X, Y)), iter(cut(X, Y)), map(tuple, cut(X, Y)), zip([X], [Y], strict=True)):
        with pytest.raises(ValueError, match="runs dry after one"):
            a.fit(one_shot, epochs=2, verbose=False)
        with pytest.raises(ValueError, match=r"validation_data: .*runs dry after one"):
            a.fit(X, Y, epochs=2, validation_data=one_shot, verbose=False)
    assert a.steps == b.steps
    dry = iter(cut(X, Y))
    a.fit(dry, verbose=False)
    with pytest.raises(ValueError, match=r"x: .*no batch from a list_iterator; it runs dry"):
        a.fit(dry, verbose=False)


def test_what_runs_dry_in_disguise_is_named():
    class Once:
        def __init__(self):
            self.batches = iter(cut(X, Y))

        def __iter__(self):
            return self.batches

    with pytest.raises(ValueError, match="none in another one; its __iter__ must begin anew"):
        trainer_of().fit(Once(), epochs=2, verbose=False)


def test_an_epoch_goes_on_in_the_middle():
    class Stop(callbacks.Callback):
        def on_batch_end(self, trainer, batch, loss):
            if batch == 1:
                raise KeyboardInterrupt

    a, b = trainer_of(), trainer_of()
    a.fit(Known(cut(X, Y)), epochs=2, callbacks=[Stop()], verbose=False)
    assert a.steps == 2
    a.fit(Known(cut(X, Y)), epochs=2, verbose=False)
    b.fit(Known(cut(X, Y)), epochs=2, verbose=False)
    assert a.model.flat_params.tobytes() == b.model.flat_params.tobytes()
    assert a.history.metrics["loss"] == pytest.approx(b.history.metrics["loss"])


def test_several_inputs_and_outputs():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    h = layers.ReLU()(layers.Dense(8)(layers.Add()(a, b)))
    model = Model([a, b], {"kind": layers.Dense(3)(h), "size": layers.Dense(1)(h)}, seed=0)
    loss = {"kind": losses.SoftmaxCrossEntropy(), "size": losses.MeanSquaredError()}
    trainer = Trainer(model, loss, optimizers.SGD(0.1))
    for x in ([X, X], {"a": X, "b": X}):
        trainer.fit([(x, {"kind": Y, "size": X[:, 0]})], verbose=False)
    assert trainer.steps == 2


WRONG = [
    ([(X, Y[:-1])], "batch 0: targets: expected"), ([(X[:, :3], Y)], "batch 0: x: expected shape"),
    (Known([{"x": X}]), "batch 0: expected"), (Known([X]), "batch 0"), (Known([(X,)]), "a tuple of 1"),
    (Known([]), "no batch"), ([(X[:0], Y[:0])], "at least one sample"),
    ([(X, np.full(50, 3))], "labels from 0 to 2"), ([(X, Y, -W)], "sample_weight"),
]  # fmt: skip


@pytest.mark.parametrize(("batches", "words"), WRONG)
def test_a_first_batch_that_does_not_fit_is_refused_before_anything_is_trained(batches, words):
    begun = []
    watch = callbacks.LambdaCallback(on_train_begin=lambda trainer: begun.append(1))
    for call in (lambda: trainer_of().fit(batches, callbacks=[watch], verbose=False),
                 lambda: trainer_of().evaluate(batches)):  # fmt: skip
        with pytest.raises((ValueError, TypeError)) as error:
            call()
        assert words in str(error.value)
    with pytest.raises((ValueError, TypeError), match="validation_data"):
        trainer_of().fit(X, Y, validation_data=batches, callbacks=[watch], verbose=False)
    assert not begun


def test_later_batches_are_named_by_their_number():
    with pytest.raises(ValueError, match="x, batch 2: x: expected shape"):
        trainer_of().fit([*cut(X, Y)[:2], (X.T, Y)], verbose=False)
    with pytest.raises(ValueError, match="all batches without weights"):
        trainer_of().fit([(X, Y), (X, Y, W)], verbose=False)


def test_arguments_that_do_not_go_together():
    trainer = trainer_of()
    cases = [
        ({"x": X}, "y: expected targets"), ({"x": Known(cut(X, Y)), "y": Y}, "leave y out"),
        ({"x": cut(X, Y), "validation_split": 0.1}, "validation_split"),
        ({"x": cut(X, Y), "class_weight": "balanced"}, "class_weight"),
        ({"x": cut(X, Y), "sample_weight": W}, "sample_weight"),
    ]  # fmt: skip
    for arguments, words in cases:
        with pytest.raises((ValueError, TypeError), match=words):
            trainer.fit(**arguments, verbose=False)
    with pytest.raises(TypeError, match="y: expected targets"):
        trainer.evaluate(X)
