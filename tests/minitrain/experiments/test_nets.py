"""Nets with batch norm and their twins without."""

import numpy as np

from minitrain import Input, Model, layers
from minitrain.experiments.nets import plain_net, sigmoid_net, weight_names


def test_twins_start_from_the_same_weights():
    for kind in ("dense", "conv"):
        options = {"image_shape": (1, 8, 8), "classes": 10, "width": 4, "seed": 3}
        with_norm, without = (plain_net(kind, "relu", 7, batch_norm=flag, **options) for flag in (True, False))
        assert weight_names(with_norm) == weight_names(without)
        assert len(weight_names(without)) == 7
        for name in weight_names(without):
            np.testing.assert_array_equal(with_norm.params[name], without.params[name])
        assert sum(name.endswith("gamma") for name in with_norm.params) == 6
        larger = plain_net(kind, "relu", 7, batch_norm=True, weight_scale=10.0, **options)
        for name in weight_names(larger):
            np.testing.assert_allclose(larger.params[name], 10 * with_norm.params[name], rtol=1e-5)


def test_sigmoid_net_starts_from_small_gaussian_weights():
    net = sigmoid_net(batch_norm=False, image_shape=(1, 8, 8), classes=10, hidden=(100, 100, 100), std=0.1, seed=0)
    assert [net.params[name].shape for name in weight_names(net)] == [(100, 64), (100, 100), (100, 100), (10, 100)]
    assert abs(net.params["dense2.weight"].std() - 0.1) < 0.005


def test_weight_names_are_in_order():
    x = Input((3,))
    model = Model(x, layers.Dense(2, name="a")(layers.Dense(3, name="z")(x)))
    assert weight_names(model) == ["z.weight", "a.weight"]
