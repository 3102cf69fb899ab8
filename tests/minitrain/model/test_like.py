"""Model(..., like=model), and models over nodes that were trained."""

import gc

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers


def nodes(features=4, classes=3):
    x = Input((features,))
    h = layers.ReLU()(layers.BatchNorm(name="bn1")(layers.Dense(8, name="a")(x)))
    return x, h, layers.Dense(classes, name="head")(h)


def train(model, steps=2):
    rng = np.random.default_rng(0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    (shape,) = model.input_shapes.values()
    for _ in range(steps):
        trainer.step(rng.standard_normal((6, *shape)), rng.integers(0, model.output_shape[0], 6))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((5, 4))


def test_a_part_starts_from_trained_weights(x):
    i, h, y = nodes()
    model = train(Model(i, y, seed=3, dtype="float64", fuse=False))
    part = Model(i, h, like=model)
    np.testing.assert_allclose(part.predict(x), model.activations(x, "relu1")["relu1"], rtol=1e-12)
    assert part.settings == model.settings
    assert list(part.params) == ["a.weight", "a.bias", "bn1.gamma", "bn1.beta"]
    np.testing.assert_array_equal(part.state["bn1.running_var"], model.state["bn1.running_var"])
    assert not np.shares_memory(part.flat_params, model.flat_params)
    part.flat_params[...] = 0
    assert model.params["a.weight"].any()
    several = Model(i, {"hidden": h, "class": y}, like=model, dtype="float32", seed=4)
    assert several.settings == {"dtype": "float32", "seed": 4, "fuse": False}
    np.testing.assert_array_equal(several.params["head.weight"], model.params["head.weight"].astype("float32"))


def test_a_new_head():
    i, h, y = nodes()
    model = train(Model(i, y))
    new = Model(i, layers.Dense(7)(layers.Dense(5)(h)), like=model, seed=9)
    assert list(new.params) == [
        *list(model.params)[:4], "dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias"
    ]  # fmt: skip
    np.testing.assert_array_equal(new.params["a.weight"], model.params["a.weight"])
    inner = Input((8,))
    expected = Model(inner, layers.Dense(7)(layers.Dense(5)(inner)), seed=9)
    for name, value in expected.params.items():
        np.testing.assert_array_equal(new.params[name], value)


def test_new_layers_get_names_that_the_model_has_not():
    i = Input((4,))
    hidden = layers.Dense(3)(i)
    model = train(Model(i, layers.Dense(3)(hidden)))
    new = Model(i, layers.Dense(3)(hidden), like=model)
    assert list(new.params) == ["dense1.weight", "dense1.bias", "dense3.weight", "dense3.bias"]
    assert not np.array_equal(new.params["dense3.weight"], model.params["dense2.weight"])


def test_layers_that_were_built_anew_match_by_name(x):
    model = train(Model(*nodes()[::2]))
    twin = Model(*nodes()[::2], like=model, seed=5)
    np.testing.assert_array_equal(twin.flat_params, model.flat_params)
    np.testing.assert_array_equal(twin.flat_state, model.flat_state)
    with pytest.raises(ValueError, match=r"head.weight: the model given as like has the shape \(3, 8\), .*\(2, 8\)"):
        Model(*nodes(classes=2)[::2], like=model)


def test_a_loaded_model(x, tmp_path):
    pytest.importorskip("safetensors")
    model = train(Model(*nodes()[::2]))
    model.save(tmp_path / "net")
    loaded = Model.load(tmp_path / "net")
    i, h, _ = nodes()
    np.testing.assert_array_equal(
        Model(i, h, like=loaded).predict(x), model.activations(x.astype("f4"), "relu1")["relu1"]
    )


def test_the_second_call_of_a_shared_layer(x):
    a, b = Input((4,), name="a"), Input((4,), name="b")
    encode = layers.Dense(3)
    first, second = encode(a), encode(b)
    model = Model([a, b], layers.Concat()(first, second), dtype="float64")
    model.flat_params[...] = np.random.default_rng(0).standard_normal(model.flat_params.size)
    expected = model.predict([x, x])[:, :3]
    np.testing.assert_array_equal(Model(b, second, like=model).predict(x), expected)
    np.testing.assert_array_equal(Model(a, first, like=model).predict(x), expected)
    z = Input((4,))
    np.testing.assert_array_equal(Model(z, encode(z), like=model).predict(x), expected)


def test_like_is_refused_where_it_gives_nothing():
    model = Model(*nodes()[::2])
    i = Input((4,))
    with pytest.raises(ValueError, match="like: expected a model that has some of the layers"):
        Model(i, layers.Dense(2, name="other")(i), like=model)
    with pytest.raises(TypeError, match="like: expected a Model, got str"):
        Model(i, layers.Dense(2)(i), like="model")
    i, h, y = nodes()
    model = Model(i, y)
    with pytest.raises(ValueError, match="name: 'head' stands for more than one layer"):
        Model(i, layers.Concat()(y, layers.Dense(2, name="head")(h)), like=model)
    assert Model(i, layers.ReLU()(i), like=model).flat_params.size == 0


def fitted(model):
    train(model)


def set_flat(model):
    model.flat_params[...] = 1


def set_one(model):
    model.params["bn1.beta"] = np.ones(8)


def moved_statistics(model):
    model.bind(6).forward(np.random.default_rng(0).standard_normal((6, 4)))


def not_a_number(model):
    model.params["a.bias"][0] = np.nan


@pytest.mark.parametrize("change", [fitted, set_flat, set_one, moved_statistics, not_a_number])
def test_trained_nodes_are_not_taken_without_a_word(change):
    i, h, y = nodes()
    model = Model(i, y)
    change(model)
    for outputs in (h, {"hidden": h}, layers.Tanh()(h), y):
        with pytest.raises(ValueError, match=r"this layer belongs to a model that was trained.*pass like=model"):
            Model(i, outputs)
    assert Model(i, h, like=model).params["a.weight"].shape == (8, 4)
    Model(*nodes()[::2])  # built anew


def test_untrained_nodes_may_be_used_again():
    i, h, y = nodes()
    models = [Model(i, y), Model(i, y, seed=1), Model(i, h, dtype="float64"), Model(i, y, fuse=False)]
    models[0].predict(np.zeros((2, 4)))
    Trainer(models[0], losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1)).gradients(np.zeros((2, 4)), [0, 1])
    Model(i, h)
    train(models[0])
    with pytest.raises(ValueError, match="was trained"):
        Model(i, h)


def test_only_what_was_trained_counts():
    i, h, y = nodes()
    model = Model(i, y)
    model.params["head.bias"][0] = 1
    Model(i, h)
    with pytest.raises(ValueError, match=r"^head\.bias: "):
        Model(i, y)


def test_a_model_that_is_gone_does_not_count():
    i, h, y = nodes()
    model = train(Model(i, y))
    gc.disable()
    try:
        del model
        Model(i, h)
    finally:
        gc.enable()
