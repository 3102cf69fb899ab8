"""Data sets that are not converted at once: bytes, memory-mapped files; and what is copied."""

import gc
import mmap
import os
import sys

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, callbacks, layers, losses, models, optimizers
from minitrain.arrays.mapped import MappedPages, chunks, is_mapped

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (40, 6)).astype("uint8")
Y = rng.integers(0, 3, 40)


def trainer_of(dtype="float32"):
    model = models.mlp((6,), 3, hidden=(8,), norm=None, seed=0, dtype=dtype)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(1e-5))


def trained_on(x, y=Y, shuffle=True, **options):
    trainer = trainer_of(**options)
    trainer.fit(x, y, epochs=2, batch_size=16, shuffle=shuffle, validation_data=(x, y), verbose=False)
    assert trainer.evaluate(x, y)["loss"] == trainer.history.metrics["val_loss"][-1]
    return trainer.model.flat_params.tobytes() + trainer.model.predict(x).tobytes()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "float16", ">f4", "int32", "float64", "int64"])
@pytest.mark.parametrize("model", ["float32", "float64"])
def test_every_type_gives_the_bits_of_floats(dtype, model):
    x = (X % 100).astype(dtype)
    assert trained_on(x, dtype=model) == trained_on(x.astype(model), dtype=model)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64", ">f4"])
def test_mapped_files_give_the_bits_of_arrays(tmp_path, mode, dtype):
    path = tmp_path / "x.npy"
    np.save(path, X.astype(dtype))
    mapped = np.load(path, mmap_mode=mode)
    assert trained_on(mapped) == trained_on(X.astype("float32"))
    assert trained_on(mapped[:, ::-1]) == trained_on(X[:, ::-1].astype("float32"))
    y = np.memmap(tmp_path / "y", np.int64, "w+", shape=40)
    y[:] = Y
    assert trained_on(mapped, y) == trained_on(X.astype("float32"))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_targets_of_many_numbers_are_converted_by_batches(tmp_path, dtype):
    def fitted(x, y):
        inputs = Input((6,))
        model = Model(inputs, layers.Dense(6)(inputs), seed=0)
        trainer = Trainer(model, losses.MeanSquaredError(), optimizers.SGD(1e-5))
        trainer.fit(x, y, epochs=2, batch_size=16, validation_split=0.2, verbose=False)
        return trainer.model.flat_params.tobytes()

    path = tmp_path / "x.npy"
    np.save(path, X.astype(dtype))
    mapped = np.load(path, mmap_mode="r")
    assert fitted(mapped, mapped) == fitted(X.astype("float32"), X.astype("float32"))
    assert fitted(X, X.copy()) == fitted(X.astype("float32"), X.astype("float32"))


def test_targets_are_all_looked_at_before_training(tmp_path):
    rows = np.memmap(tmp_path / "y", np.float32, "w+", shape=(3000, 3))
    rows[:] = [0.5, 0.5, 0.0]
    rows[2999] = 2.0
    with pytest.raises(ValueError, match="probabilities"):
        trainer_of().fit(np.zeros((3000, 6), np.float32), rows, verbose=False)
    with pytest.raises(ValueError, match=r"\(3000, 3\), got shape \(3000, 4\)"):
        trainer_of().fit(np.zeros((3000, 6)), np.memmap(tmp_path / "z", "u1", "w+", shape=(3000, 4)), verbose=False)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("of", ["x", "y", "validation"])
def test_a_fit_sees_arrays_as_they_were_when_it_began(dtype, of):
    results = []
    for change in (False, True):
        x, y, held = (X % 2).astype(dtype), (X % 2).astype(dtype), (X % 2).astype(dtype)
        changed = {"x": x, "y": y, "validation": held}[of]
        watch = callbacks.LambdaCallback(on_epoch_begin=lambda *_, c=changed, do=change: c.fill(1) if do else None)
        inputs = Input((6,))
        trainer = Trainer(Model(inputs, layers.Dense(6)(inputs), seed=0), losses.MeanSquaredError(),
                          optimizers.SGD(0.01))  # fmt: skip
        trainer.fit(x, y, epochs=2, callbacks=[watch], validation_data=(held, held), verbose=False)
        results.append([trainer.model.flat_params.tobytes(), *trainer.history.metrics["val_loss"]])
    assert results[0] == results[1]


# ------------------------------------------------------------------------------------------------------------- memory


def test_what_is_mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with (tmp_path / "x.npy").open("rb") as file:
        by_hand = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    for each in (mapped, mapped[3:], np.asarray(mapped).T, mapped.view(np.ndarray)[::2], by_hand, by_hand[5:]):
        assert is_mapped(each)
    for each in (X, np.array(mapped), X[:3], np.frombuffer(b"abc", np.uint8), 3, None):
        assert not is_mapped(each)


def test_changes_in_memory_survive_that_pages_are_given_back(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 1 << 20), np.uint8))
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 7
    pages = MappedPages([private])
    for _ in range(1000):
        pages.read(100, scattered=True)
    assert private[0, 0] == 7
    shared = np.load(tmp_path / "x.npy", mmap_mode="r+")
    shared[1] = 9
    pages = MappedPages([shared[:50]])
    for _ in range(1000):
        pages.read(100, scattered=True)
    assert shared[1, 5] == 9
    assert sum(len(each) for each in chunks(shared)) == 100


def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_memory_does_not_grow_with_a_mapped_set(tmp_path, dtype):
    """Neither the process's own nor what it has of the file."""
    size = 300 << 20
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(size)
    rows = 8 << 10
    count = size // (rows * np.dtype(dtype).itemsize)
    x = np.memmap(path, dtype, "r", shape=(count, rows))
    y = np.arange(count) % 2
    model = Model(inputs := Input((rows,)), layers.Dense(2)(inputs), seed=0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    small = np.zeros((512, rows), np.float32)
    trainer.fit(small, y[:512], batch_size=256, verbose=False, validation_data=(small, y[:512]))
    trainer.model.predict(small, batch_size=256)
    gc.collect()
    before, seen = resident(), []
    watch = callbacks.LambdaCallback(on_batch_end=lambda *_: seen.append(resident()))
    trainer.fit(x, y, batch_size=256, callbacks=[watch], verbose=False)
    trainer.fit(x[:512], y[:512], batch_size=256, validation_data=(x, y), callbacks=[watch], verbose=False)
    seen.append(resident())
    trainer.evaluate(x, y, batch_size=256)
    seen.append(resident())
    trainer.model.predict(x, batch_size=256)
    seen.append(resident())
    assert max(seen) - before < 150 << 20
    os.unlink(path)
