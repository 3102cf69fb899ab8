"""Model: variables, first values, predict, the search for what is not finite."""

import threading

import numpy as np
import pytest

from minitrain import Input, Model, initializers, layers


def small_net(seed=0, dtype="float32", norm=True):
    x = Input((1, 6, 6))
    h = layers.Conv2d(3, 3, padding=1, bias=not norm, name="conv1")(x)
    if norm:
        h = layers.BatchNorm(name="bn1")(h)
    h = layers.Flatten()(layers.ReLU(name="relu1")(h))
    return Model(x, layers.Dense(4, name="head")(h), seed=seed, dtype=dtype)


def test_names_and_shapes():
    model = small_net()
    shapes = {name: value.shape for name, value in model.params.items()}
    assert shapes == {
        "conv1.weight": (3, 1, 3, 3), "bn1.gamma": (3,), "bn1.beta": (3,), "head.weight": (4, 108), "head.bias": (4,)
    }  # fmt: skip
    assert set(model.state) == {"bn1.running_mean", "bn1.running_var"}
    assert model.count_parameters() == 27 + 3 + 3 + 432 + 4
    assert model.output_shape == (4,)


def test_params_are_live_views_of_one_vector():
    model = small_net()
    model.params["bn1.gamma"][...] = 7
    assert (model.flat_params == 7).sum() == 3
    model.params["bn1.gamma"] = [1, 2, 3]
    np.testing.assert_array_equal(model.params["bn1.gamma"], [1, 2, 3])
    with pytest.raises(ValueError, match=r"bn1.gamma: expected shape \(3,\), got \(2,\)"):
        model.params["bn1.gamma"] = [1, 2]
    with pytest.raises(KeyError, match=r"expected one of conv1.weight"):
        model.params["conv2.weight"]


def test_penalties_reach_weights_only():
    model = small_net()
    reached = np.zeros(model.count_parameters(), bool)
    for run, flag in model.penalized:
        reached[run] = flag
    for name, value in model.params.items():
        start = (value.ctypes.data - model.flat_params.ctypes.data) // model.flat_params.itemsize
        assert reached[start : start + value.size].all() == name.endswith(".weight"), name
        assert reached[start : start + value.size].any() == name.endswith(".weight"), name


def test_first_values_depend_on_seed_and_name_alone():
    same, other, without = small_net(0), small_net(1), small_net(0, norm=False)
    np.testing.assert_array_equal(small_net(0).flat_params, same.flat_params)
    assert (same.params["conv1.weight"] != other.params["conv1.weight"]).all()
    np.testing.assert_array_equal(same.params["head.weight"], without.params["head.weight"])
    np.testing.assert_array_equal(
        same.params["conv1.weight"], small_net(0, "float64").params["conv1.weight"].astype("f4")
    )


def test_initializers_are_the_layers():
    x = Input((50,))
    model = Model(x, layers.Dense(200, weight_init=initializers.Normal(0.5), bias_init=initializers.Constant(2))(x))
    assert model.params["dense1.weight"].std() == pytest.approx(0.5, rel=0.05)
    assert (model.params["dense1.bias"] == 2).all()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predict_takes_any_number_of_samples(batch_size):
    model = small_net(dtype="float64")
    x = np.random.default_rng(0).standard_normal((7, 1, 6, 6))
    np.testing.assert_allclose(model.predict(x, batch_size), model.predict(x, 7), rtol=1e-12, atol=1e-14)
    assert model.predict(x[:0]).shape == (0, 4)


def test_predict_leaves_state_alone_and_uses_it():
    model = small_net()
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    before = model.flat_state.copy()
    first = model.predict(x)
    np.testing.assert_array_equal(model.flat_state, before)
    model.state["bn1.running_mean"] = [5, 5, 5]
    assert np.abs(model.predict(x) - first).max() > 0.1


def test_predict_checks_its_input():
    model = small_net()
    with pytest.raises(ValueError, match=r"x: expected shape \(samples, 1, 6, 6\), got \(5, 6, 6\)"):
        model.predict(np.zeros((5, 6, 6)))
    with pytest.raises(TypeError, match="x: expected numbers"):
        model.predict(np.full((5, 1, 6, 6), "a"))
    with pytest.raises(ValueError, match="batch_size: expected an integer >= 1, got 0"):
        model.predict(np.zeros((5, 1, 6, 6)), batch_size=0)


def test_predict_accepts_integers_and_views():
    model = small_net()
    x = np.random.default_rng(0).integers(0, 255, (6, 6, 4, 1), dtype=np.uint8)
    view = x.transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(model.predict(view), model.predict(np.ascontiguousarray(view, np.float32)))


def test_several_inputs():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    model = Model([a, b], layers.Concat()(a, layers.ReLU()(b)))
    out = model.predict([np.ones((2, 3)), -np.ones((2, 3))])
    np.testing.assert_array_equal(out, [[1, 1, 1, 0, 0, 0]] * 2)
    with pytest.raises(ValueError, match="expected 2 arrays"):
        model.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x \(b\): expected 2 samples"):
        model.predict([np.ones((2, 3)), np.ones((4, 3))])


def test_threads_take_turns():
    model = small_net()
    x = np.random.default_rng(0).standard_normal((64, 1, 6, 6))
    expected, wrong = model.predict(x, 16), []

    def work():
        for _ in range(20):
            if not np.array_equal(model.predict(x, 16), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong


def test_summary_names_every_layer(capsys):
    small_net().summary()
    text = capsys.readouterr().out
    for expected in ("conv1", "BatchNorm", "(3, 6, 6)", "469 parameters"):
        assert expected in text


@pytest.mark.parametrize(("dtype", "batch", "name"), [("float32", 32, "winograd 4x4"), ("float32", 1, "direct"),
                                                      ("float64", 32, "direct")])  # fmt: skip
def test_summary_names_the_algorithm(dtype, batch, name):
    x, lines = Input((16, 8, 8)), []
    Model(x, layers.Conv2d(16, 3, padding=1)(x), dtype=dtype).summary(lines.append, batch_size=batch)
    heading, _, _, conv, *_ = lines[0].splitlines()
    column = heading.index("algorithm")
    assert conv[column:].startswith(name)


def test_bad_arguments():
    x = Input((3,))
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        Model(x, layers.ReLU()(x), dtype="float16")
    with pytest.raises(ValueError, match="seed: expected an integer >= 0, got -1"):
        Model(x, layers.ReLU()(x), seed=-1)
    with pytest.raises(ValueError, match="outputs: expected the output of a layer"):
        Model(x, x)
    with pytest.raises(TypeError, match="outputs: expected one Node"):
        Model(x, [layers.ReLU()(x)])
