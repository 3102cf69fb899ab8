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
    for expected in ("conv1", "GFLOP/s", "GB/s", "batch 5"):
        assert expected in text
