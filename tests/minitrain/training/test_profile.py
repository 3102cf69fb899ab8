"""Trainer.profile: every layer has its numbers, and nothing is trained."""

import numpy as np

from minitrain import Input, Model, Trainer, layers, losses, optimizers


def test_profile(capsys):
    x = Input((2, 6, 6))
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1)(x)))
    h = layers.Add()(h, layers.Tanh()(h))
    model = Model(x, layers.Dense(3, name="head")(layers.Flatten()(h)))
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    params, state = model.flat_params.copy(), model.flat_state.copy()
    xb = np.random.default_rng(0).standard_normal((5, 2, 6, 6))
    profiles = {each.name: each for each in trainer.profile(xb, np.arange(5) % 3, runs=2)}
    np.testing.assert_array_equal(model.flat_params, params)
    np.testing.assert_array_equal(model.flat_state, state)
    assert trainer.steps == 0
    assert profiles["conv1"].flops == 2 * 5 * 4 * 6 * 6 * 2 * 9
    assert profiles["head"].flops == 2 * 5 * 144 * 3
    assert profiles["bn1"].kind == "BatchNormReLU"
    for name, each in profiles.items():
        assert (each.forward > 0) == (name != "flatten1"), name
        assert each.backward > 0 or name in ("flatten1", "add1"), name
    assert profiles["conv1"].gflops > 0
    text = capsys.readouterr().out
    assert profiles["conv1"].algorithms == {
        "forward": "direct", "input gradient": "direct", "weight gradient": "direct"
    }  # fmt: skip
    assert not profiles["head"].algorithms
    for expected in ("conv1", "algorithm (forward / input / weight gradient)", "direct", "GFLOP/s", "batch 5", "GB/s"):
        assert expected in text


def test_algorithms_are_those_of_the_batch_and_of_the_dtype():
    named = {}
    for dtype, batch in (("float32", 16), ("float32", 1), ("float64", 16)):
        x = Input((16, 8, 8))
        h = layers.Conv2d(16, 3, padding=1, name="conv")(x)
        model = Model(x, layers.Dense(2)(layers.Flatten()(h)), dtype=dtype)
        trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
        xb, lines = np.zeros((batch, 16, 8, 8)), []
        profiles = trainer.profile(xb, np.zeros(batch, int), runs=1, print_fn=lines.append)
        named[dtype, batch] = next(each.algorithms["forward"] for each in profiles if each.name == "conv")
        assert named[dtype, batch] in lines[0]
    assert named == {("float32", 16): "winograd 4x4", ("float32", 1): "direct", ("float64", 16): "direct"}
