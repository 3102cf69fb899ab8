"""Copies and pickles of models: the same bits, views that are live, nothing shared."""

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from paths import ROOT
from small_trainer import small_net

from minitrain import Input, Model, layers
from minitrain.layer import Declaration, Layer, Spec
from minitrain.model import copying

X = np.random.default_rng(0).standard_normal((9, 6)).astype("f4")


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def pickled_oldest(thing):
    return pickle.loads(pickle.dumps(thing, protocol=2))


def pickled_beside(thing):
    """As joblib and others do: the arrays outside, and read-only."""
    buffers = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(each.raw()) for each in buffers])


WAYS = pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, pickled_oldest, pickled_beside])


def trained_net(**options):
    """A net whose parameters, state and gradients are not those that it began with."""
    model = small_net(dropout=True, **options)
    rng = np.random.default_rng(1)
    with model.held((X.shape,), training=True) as plan:
        plan.load(X)
        plan.forward()
        plan.output_gradient[...] = rng.standard_normal(plan.output.shape)
        plan.backward()
    model.flat_params += 0.1 * rng.standard_normal(model.flat_params.shape)
    return model


def bits(model):
    return model.flat_params.tobytes(), model.flat_state.tobytes(), model.flat_gradients.tobytes()


@WAYS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_and_views(duplicate, dtype):
    model = trained_net(dtype=dtype, seed=3)
    model.predict(X)
    again = duplicate(model)
    assert type(again) is Model
    assert bits(again) == bits(model)
    assert (again.dtype, again.seed, again.fuse, again.graph) == (model.dtype, model.seed, model.fuse, model.graph)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for name in ("params", "gradients"):
        for own, theirs in zip(getattr(again, name).values(), getattr(model, name).values(), strict=True):
            assert np.shares_memory(own, getattr(again, f"flat_{name}"))
            assert not np.shares_memory(own, theirs)
            assert own.flags.writeable
    assert all(np.shares_memory(each, again.flat_state) for each in again.state.values())
    before = bits(model)
    again.flat_params += 1
    again.state["bn.running_mean"][...] = 5
    again.gradients["head.bias"][...] = 5
    assert bits(model) == before
    assert not np.array_equal(again.predict(X), model.predict(X))


@WAYS
def test_settings(duplicate):
    x = Input((6,))
    model = Model(x, {"a": layers.Dense(2)(x), "b": layers.Dense(3)(x)}, fuse=False)
    again = duplicate(model)
    assert not again.fuse
    assert again.output_shape == {"a": (2,), "b": (3,)}
    np.testing.assert_array_equal(again.predict(X)["b"], model.predict(X)["b"])


@WAYS
def test_two_references_to_one_model_stay_one(duplicate):
    model = small_net()
    box = {"models": [model, model], "again": (model,)}
    copied = duplicate(box)
    assert copied["models"][0] is copied["models"][1] is copied["again"][0]
    assert copied["again"][0] is not model


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match=r"would share its arrays: write copy\.deepcopy\(model\)"):
        copy.copy(small_net())


@WAYS
def test_nodes(duplicate):
    """What is copied together stays together; what is built on copies is like what is built on the originals."""
    x = Input((6,), name="image")
    shared = layers.Dense(4)
    first, second = shared(x), layers.ReLU()(shared(layers.Dense(6)(x)))
    y = layers.Add()(second, first)
    again = duplicate([y, x, shared, first])
    assert again[3] in again[0].inputs
    assert again[3].layer is again[2]
    assert again[3].inputs[0] is again[1]
    model, same = Model(x, layers.Dense(2)(y)), Model(again[1], layers.Dense(2)(again[0]))
    assert list(model.params) == list(same.params)
    np.testing.assert_array_equal(model.flat_params, same.flat_params)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))
    assert copy.copy(x) is x


@WAYS
def test_nodes_of_a_layer_with_several_outputs(duplicate):
    a, b = layers.Dense(3)(Input((6,))), layers.ReLU()(Input((6,)))
    for node in duplicate([a, b]):
        assert node.call is node


@WAYS
def test_deep_nets_are_no_deep_recursion(duplicate):
    x = Input((6,))
    h = x
    for _ in range(400):
        h = layers.ReLU()(h)
    again = duplicate([h, x])
    assert len(Model(again[1], again[0], fuse=False).graph.nodes) == 400
    model = Model(x, h, fuse=False)
    np.testing.assert_array_equal(duplicate(model).predict(X), model.predict(X))


def test_the_nodes_that_a_user_has_are_those_of_the_copy():
    x = Input((6,))
    h = layers.Dense(3)(x)
    model = Model(x, h)
    again, box = copy.deepcopy(model), copy.deepcopy([model, h])
    assert again._names[h] == model._names[h] == box[0]._names[box[1]]


@dataclass(frozen=True)
class Scale(Layer):
    """A user's own layer, with what no file could hold."""

    function: object = np.tanh
    factors: tuple = (1, 2)

    def declare(self, *inputs):
        return Declaration({"y": Spec(inputs[0].shape)}, backward_reads=())

    def forward(self, t):
        self.function(t.x, out=t.y)
        np.multiply(t.y, self.factors[1], out=t.y)


class Marked(Model):
    """A user's own model."""

    def __init__(self, *arguments, mark):
        self.before = mark
        super().__init__(*arguments)
        self.mark = {"list": [mark], "self": self}
        self._private = mark


@WAYS
def test_what_is_the_users(duplicate):
    x = Input((6,))
    model = Marked(x, layers.Dense(3)(Scale()(x)), mark=7)
    again = duplicate(model)
    assert type(again) is Marked
    assert (again.before, again._private, again.mark["list"]) == (7, 7, [7])
    assert again.mark["self"] is again
    assert again.mark["list"] is not model.mark["list"]
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_layer_that_cannot_be_pickled_can_be_copied():
    x = Input((6,))
    model = Model(x, Scale(lambda x, out: np.tanh(x, out=out))(x))
    np.testing.assert_array_equal(copy.deepcopy(model).predict(X), model.predict(X))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(model)


@pytest.mark.parametrize("state", [{"version": 99}, {}, None, [1]])
def test_another_version(state):
    model = Model.__new__(Model)
    with pytest.raises(ValueError, match=r"this model was pickled by another version .* goes into a file: model\.save"):
        model.__setstate__(state)
    assert copying.VERSION == 1


def test_copies_within_a_pass(monkeypatch):
    """A layer, say, that copies the model while it runs."""
    model = small_net()
    kept = []
    with model.held((X.shape,), training=True) as plan:
        plan.load(X)
        plan.forward()
        kept += [copy.deepcopy(model), pickled(model)]
    for each in kept:
        assert bits(each)[:2] == bits(model)[:2]
        np.testing.assert_array_equal(each.predict(X), model.predict(X))


PROGRAM = """
import multiprocessing, sys
import numpy as np
sys.path.insert(0, "tests")
from small_trainer import make_trainer, small_net

X = np.random.default_rng(0).standard_normal((9, 6)).astype("f4")
Y = np.arange(9) % 3

def predict(model):
    return model.predict(X)

def step(trainer):
    trainer.step(X, Y)
    return trainer

if __name__ == "__main__":
    trainer = make_trainer(small_net(dropout=True))
    trainer.step(X, Y)
    if sys.argv[1] == "spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            predicted, stepped = pool.map(predict, [trainer.model])[0], pool.map(step, [trainer])[0]
    else:
        import joblib
        run = joblib.Parallel(n_jobs=2, max_nbytes=1)  # every array goes by a file that is read-only
        predicted = run([joblib.delayed(predict)(trainer.model)])[0]
        stepped = run([joblib.delayed(step)(trainer)])[0]
    assert (predicted == predict(trainer.model)).all()
    assert (step(trainer).model.flat_params == stepped.model.flat_params).all()
    assert (step(trainer).model.flat_params == step(stepped).model.flat_params).all()
    print("done")
"""


@pytest.mark.parametrize("way", ["spawn", "joblib"])
def test_processes(way, tmp_path):
    if way == "joblib":
        pytest.importorskip("joblib")
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    result = subprocess.run(
        [sys.executable, tmp_path / "program.py", way], env=environment, cwd=ROOT, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert result.stdout.split() == ["done"], result.stderr
