"""Saving and loading: everything comes back, nothing is executed, broken files are errors in words."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from minitrain import Input, Model, initializers, layers
from minitrain.layers import LAYERS
from minitrain.model.file import METADATA_KEY, pack, read_arrays


def net(dtype="float32"):
    x = Input((2, 8, 8), name="image")
    h = layers.Conv2d(4, (3, 5), padding=(1, 2), bias=False, weight_init=initializers.Glorot("uniform"))(x)
    h = layers.PReLU()(layers.BatchNorm(momentum=0.2)(h))
    h = layers.Concat()(h, layers.Dropout(0.3)(layers.Conv2d(4, 1)(x)))
    return Model(x, layers.Dense(3)(layers.Flatten()(layers.MaxPool2d(2)(h))), seed=4, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(tmp_path, dtype):
    model = net(dtype)
    x = np.random.default_rng(0).standard_normal((5, 2, 8, 8))
    plan = model.training_plan(5)
    plan.load(x)
    plan.forward()  # moves the state
    model.save(tmp_path / "net.safetensors")
    loaded = Model.load(tmp_path / "net.safetensors")
    assert loaded.graph == model.graph
    assert (loaded.dtype, loaded.seed) == (model.dtype, model.seed)
    for mine, theirs in ((model.params, loaded.params), (model.state, loaded.state)):
        assert list(mine) == list(theirs)
        for name, value in mine.items():
            assert value.tobytes() == theirs[name].tobytes()
            assert value.dtype == theirs[name].dtype
    np.testing.assert_array_equal(model.predict(x), loaded.predict(x))


def test_transposed_and_strided_arrays_survive(tmp_path):
    values = np.arange(24.0).reshape(4, 6)
    arrays = {
        "t": values.T,
        "strided": values[::2, ::3],
        "reversed": values[::-1],
        "fortran": np.asfortranarray(values),
    }
    (tmp_path / "file").write_bytes(pack(arrays, {}))
    for name, each in read_arrays(tmp_path / "file")[0].items():
        np.testing.assert_array_equal(each, arrays[name])


def test_arrays_of_no_axes_stay_such(tmp_path):
    path = tmp_path / "scalars.safetensors"
    path.write_bytes(pack({"one": np.float64(3.5), "two": np.array(2, np.int64), "three": np.ones(1)}, {}))
    arrays, _ = read_arrays(path)
    assert {name: (each.shape, each.tolist()) for name, each in arrays.items()} == {
        "one": ((), 3.5), "two": ((), 2), "three": ((1,), [1.0])
    }  # fmt: skip


def test_transposed_weights_survive(tmp_path):
    x = Input((6,))
    model = Model(x, layers.Dense(4, name="d", bias=False)(x))
    weights = np.arange(24.0, dtype="f4").reshape(6, 4).T
    model.params["d.weight"] = weights
    model.save(tmp_path / "net")
    np.testing.assert_array_equal(Model.load(tmp_path / "net").params["d.weight"], weights)


def rewrite(path, change, arrays=None):
    """Save a net's file again with a changed description."""
    old, metadata = read_arrays(path)
    description = json.loads(metadata[METADATA_KEY])
    change(description)
    path.write_bytes(pack(arrays or old, {METADATA_KEY: json.dumps(description)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "version 99, expected 1"),
        (lambda d: d["graph"]["nodes"][0]["layer"].update({"class": "os.system"}), "unknown layer 'os.system'"),
        (lambda d: d["graph"]["nodes"][0]["layer"].update(command="x"), "Conv2d has no argument command"),
        (lambda d: d["graph"]["nodes"][0].update(inputs=["nowhere"]), "reads 'nowhere', which no earlier layer gives"),
        (lambda d: d["graph"].update(output="nowhere"), "no layer gives the output"),
        (lambda d: d["graph"].pop("nodes"), "malformed description"),
        (lambda d: d["graph"]["nodes"][0]["layer"].update(out_channels="many"), "out_channels"),
        (lambda d: d.pop("graph"), "not a saved model"),
    ],
)
def test_broken_descriptions(tmp_path, change, message):
    path = tmp_path / "net"
    net().save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        Model.load(path)
    assert str(path) in str(caught.value)


def test_arrays_that_do_not_fit(tmp_path):
    path = tmp_path / "net"
    net().save(path)
    arrays, _ = read_arrays(path)
    first = next(iter(arrays))
    rewrite(path, lambda d: None, {**arrays, first: arrays[first].astype("f8")})
    with pytest.raises(ValueError, match=f"{first}: expected float32"):
        Model.load(path)
    rewrite(path, lambda d: None, {name: each for name, each in arrays.items() if name != first})
    with pytest.raises(ValueError, match=f"missing arrays .*{first}"):
        Model.load(path)


@pytest.mark.parametrize("content", [b"", b"not a file of arrays", b"\xff" * 200])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        Model.load(tmp_path / "file")


def test_truncated_files_are_refused(tmp_path):
    net().save(tmp_path / "net")
    content = (tmp_path / "net").read_bytes()
    for length in (len(content) - 1, len(content) // 2, 9):
        (tmp_path / "part").write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            Model.load(tmp_path / "part")


def test_a_file_of_another_program_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(safetensors.numpy.save({"w": np.ones(3)}))
    with pytest.raises(ValueError, match="not a saved model"):
        Model.load(tmp_path / "file")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "nothing")


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net"
    model = net()
    model.save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["net"]


def test_every_layer_can_be_saved(tmp_path):
    for cls in LAYERS.values():
        for number, example in enumerate(cls.examples):
            inputs = [Input(spec.shape[1:], spec.dtype) for spec in example.inputs]
            model = Model(inputs, cls(**example.arguments)(*inputs))
            model.save(tmp_path / "net")
            assert Model.load(tmp_path / "net").graph == model.graph, (cls, number)
