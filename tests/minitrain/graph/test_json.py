"""Layers that are not minitrain's in a saved graph: who may make them, and what could not be made again."""

from dataclasses import dataclass

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.checkpoint import load_checkpoint, save_checkpoint
from minitrain.compile.fusions import fuse
from minitrain.initializers import Constant, Initializer
from minitrain.layer import Declaration, Layer, zeros

pytest.importorskip("safetensors")


@dataclass(frozen=True)
class Scaled(Layer):
    """A user's own layer: y = factor x, and a field that is a layer."""

    factor: float = 2.0
    inner: Layer | None = None
    weight_init: object = Constant(1.0)

    def declare(self, *inputs):
        return Declaration({"y": inputs[0]}, params={"weight": zeros((1,))})

    def forward(self, t):
        np.multiply(t.x, self.factor, out=t.y)


def net_with(layer):
    x = Input((3,))
    return Model(x, layer(layers.Dense(2, name="d")(x)))


def test_a_users_own_layer_is_saved_and_loaded_by_whoever_passes_it(tmp_path):
    path, model = tmp_path / "net", net_with(Scaled(3.0, inner=layers.LeakyReLU(0.2), name="own"))
    model.save(path)
    with pytest.raises(
        ValueError, match=r"unknown layer 'Scaled'; pass its class: Model.load\(path, layers=\[Scaled\]"
    ):
        Model.load(path)
    again = Model.load(path, layers=[Scaled])
    assert again.graph == model.graph
    np.testing.assert_array_equal(again.params["d.weight"], model.params["d.weight"])


def test_a_name_stands_for_one_class(tmp_path):
    class Dense(Scaled):
        pass

    class He(Scaled):
        pass

    net_with(layers.ReLU()).save(tmp_path / "net")
    for own in (Dense, He):
        with pytest.raises(ValueError, match=f"two classes are called {own.__name__}"):
            Model.load(tmp_path / "net", layers=[own])
        with pytest.raises(ValueError, match=f"own: two classes are called {own.__name__}"):
            net_with(own(name="own")).save(tmp_path / "other")
    with pytest.raises(ValueError, match="two classes are called Scaled"):
        Model.load(tmp_path / "net", layers=[Scaled, type("Scaled", (Scaled,), {})])
    with pytest.raises(TypeError, match="layers: expected classes of layers, got 'Scaled'"):
        Model.load(tmp_path / "net", layers=["Scaled"])
    assert Model.load(tmp_path / "net", layers=[Scaled, layers.Dense]).count_parameters() == 8
    assert not (tmp_path / "other").exists()


@dataclass(frozen=True)
class Doubled(Scaled):
    """Cannot be made again from its own field."""

    def __post_init__(self):
        object.__setattr__(self, "factor", 2 * self.factor)


class Twice(Initializer):
    """A user's initializer, which nothing can load."""


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (Scaled(np.float32(2), name="own"), TypeError, "own: factor: expected None, booleans, numbers"),
        (Scaled({"a": 1}, name="own"), TypeError, r"own: factor: expected .*, got \{'a': 1\}"),
        (Scaled((1, {2}), name="own"), TypeError, r"own: factor: expected .*, got \{2\}"),
        (Scaled(weight_init=Twice(), name="own"), TypeError, r"own: weight_init: expected .*, got Twice\(\)"),
        (Scaled(inner=Scaled(b"x"), name="own"), TypeError, "own: inner: factor: expected"),
        (Doubled(name="own"), ValueError, "own: expected a layer that is made again from its fields"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, layer, error, message):
    path = tmp_path / "net"
    net_with(layers.ReLU()).save(path)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        net_with(layer).save(path)
    assert path.read_bytes() == before


def test_a_fused_graph_is_not_saved(tmp_path):
    x = Input((3,))
    fused = Model.from_graph(fuse(Model(x, layers.ReLU()(layers.BatchNorm()(x))).graph), fuse=False)
    with pytest.raises(ValueError, match="bn1: a BatchNormReLU stands for other layers; save the unfused graph"):
        fused.save(tmp_path / "net")


def test_a_checkpoint_is_loaded_with_a_users_own_layers(tmp_path):
    path, loss, optimizer = tmp_path / "run", losses.MeanSquaredError(), optimizers.SGD(0.1)
    trainer = Trainer(net_with(Scaled(3.0, name="own")), loss, optimizer)
    save_checkpoint(trainer, path)
    with pytest.raises(ValueError, match="unknown layer 'Scaled'"):
        load_checkpoint(path, loss, optimizer)
    assert load_checkpoint(path, loss, optimizer, layers=[Scaled]).model.graph == trainer.model.graph
