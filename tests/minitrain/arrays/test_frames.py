"""Frames and series of pandas and polars, wherever arrays are taken."""

import numpy as np
import pytest

from minitrain import Trainer, losses, models, optimizers

rng = np.random.default_rng(0)
N = 30
FLOATS = {f"f{k}": rng.standard_normal(N) for k in range(2)}
COLUMNS = {**FLOATS, "i": rng.integers(0, 9, N), "b": rng.random(N) > 0.5}
X = np.column_stack([each.astype(float) for each in COLUMNS.values()])
Y = rng.integers(0, 3, N)
W = rng.random(N)


def bits_of(x, y, w):
    trainer = Trainer(models.mlp((4,), 3, hidden=(8,), norm=None, seed=0), losses.SoftmaxCrossEntropy(),
                      optimizers.SGD(0.1))  # fmt: skip
    trainer.fit(x, y, sample_weight=w, validation_data=(x, y, w), verbose=False)
    trainer.step(x, y, sample_weight=w)
    measured = trainer.evaluate(x, y)
    return trainer.model.flat_params.tobytes(), trainer.model.predict(x).tobytes(), sorted(measured.items())


def refused(x, y=Y):
    model = models.mlp((np.shape(x)[1] if np.ndim(x) > 1 else 4,), 3, hidden=(8,))
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    with pytest.raises((TypeError, ValueError)) as error:
        trainer.fit(x, y, verbose=False)
    assert trainer.steps == 0
    return str(error.value)


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS, index=np.arange(N)[::-1])
    expected = bits_of(X, Y, W)
    assert bits_of(frame, pandas.Series(Y, index=frame.index), pandas.Series(W)) == expected
    nullable = frame.convert_dtypes()
    assert bits_of(nullable, pandas.Series(Y, dtype="Int64"), pandas.Series(W, dtype="Float64")) == expected
    assert bits_of(frame.astype(float), Y, W) == expected
    doubled = pandas.DataFrame(X, columns=["a", "a", "b", "b"])
    assert bits_of(doubled, Y, W) == expected
    one_hot = pandas.get_dummies(pandas.Series(Y))
    assert bits_of(frame, one_hot, W)[1] == bits_of(X, np.eye(3)[Y], W)[1]


def test_pandas_columns_that_are_no_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS)
    columns = {
        "name": (["a"] * N, "get_dummies"), "kind": (pandas.Categorical(["a", "b"] * (N // 2)), ".cat.codes"),
        "day": (pandas.date_range("2026-01-01", periods=N), "days"), "mixed": ([1, "a"] * (N // 2), "str"),
        "gone": (pandas.array([1, None] * (N // 2), dtype="Int64"), "missing 15 of its values"),
        "z": ([1j] * N, "real and imaginary"),
    }  # fmt: skip
    for name, (values, words) in columns.items():
        message = refused(frame.assign(**{name: values}))
        assert f"column {name!r}" in message
        assert words in message
    assert refused(frame, pandas.Series(["a", "b"] * (N // 2))).startswith("targets: expected")


def test_polars_frames():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(COLUMNS)
    expected = bits_of(X, Y, W)
    assert bits_of(frame, polars.Series(Y), polars.Series(W)) == expected
    assert bits_of(frame.cast(polars.Float64), Y, W) == expected
    assert bits_of(frame, polars.Series(Y).cast(polars.UInt8), W) == expected
    assert "collect()" in refused(frame.lazy())


def test_polars_columns_that_are_no_numbers():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(COLUMNS)
    strings = polars.Series("name", ["a"] * N)
    columns = {
        "name": (strings, "to_dummies"), "kind": (strings.cast(polars.Categorical), "to_physical"),
        "gone": (polars.Series([1, None] * (N // 2)), "missing 15 of its values"),
        "day": (polars.Series([0] * N).cast(polars.Date), "days"),
    }  # fmt: skip
    for name, (values, words) in columns.items():
        message = refused(frame.with_columns(values.alias(name)))
        assert f"column {name!r}" in message
        assert words in message
