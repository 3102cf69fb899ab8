"""The nets that are measured against peers, by the name that `--net` takes, and a batch for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minitrain import Input, Model, layers, models

__all__ = ["NETS", "Net", "chosen"]


def digits_net() -> Model:
    """Two convolutions of 16 and 32 channels with batch norm, for 8 x 8 images."""
    h = x = Input((1, 8, 8))
    for channels in (16, 32):
        h = layers.Conv2d(channels, 3, padding=1, bias=False)(h)
        h = layers.MaxPool2d(2)(layers.ReLU()(layers.BatchNorm()(h)))
    return Model(x, layers.Dense(10)(layers.Flatten()(h)), seed=0)


def sigmoid_mlp() -> Model:
    """The net of Ioffe and Szegedy 2015, figure 1, with batch norm before the sigmoids."""
    h = x = Input((784,))
    for _ in range(3):
        h = layers.Sigmoid()(layers.BatchNorm()(layers.Dense(100, bias=False)(h)))
    return Model(x, layers.Dense(10)(h), seed=0)


@dataclass(frozen=True)
class Net:
    """What is measured: a model, the batch it trains with, and whether with Adam (else SGD with momentum)."""

    title: str
    make: Callable[[], Model]
    batch: int
    adam: bool = False

    @property
    def name(self) -> str:
        """The title and how it is trained."""
        return f"{self.title}, batch {self.batch}, {'Adam' if self.adam else 'SGD'}"

    def data(self, batch: int | None = None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return random samples and labels, of as many as the net trains with unless a number is given."""
        rng, model = np.random.default_rng(0), self.make()
        (shape,) = model.input_shapes.values()
        count = self.batch if batch is None else batch
        return rng.standard_normal((count, *shape)).astype(np.float32), rng.integers(0, 10, count)


NETS: dict[str, Net] = {
    "resnet20-128": Net("ResNet-20", lambda: models.resnet20((3, 32, 32), 10), 128),
    "resnet20-32": Net("ResNet-20", lambda: models.resnet20((3, 32, 32), 10), 32),
    "mnist-b": Net("MNIST net (b)", lambda: models.article_b((1, 28, 28), 10), 64, adam=True),
    "mlp": Net("MLP 784-100-100-100-10", sigmoid_mlp, 60),
    "mlp-adam": Net("MLP 784-100-100-100-10", sigmoid_mlp, 60, adam=True),
    "digits-net": Net("digits net", digits_net, 32),
    "digits-mlp": Net("MLP 64-100-10", lambda: models.mlp((64,), 10, (100,), norm=None), 200, adam=True),
    "resnet18-224": Net("ResNet-18, 224", lambda: models.resnet18((3, 224, 224)), 8),
    "resnet18-64": Net("ResNet-18, 64", lambda: models.resnet18((3, 64, 64)), 32),
    "resnet50-128": Net("ResNet-50, 128", lambda: models.resnet50((3, 128, 128)), 4),
    "mobilenet-v1": Net("MobileNet, 128", lambda: models.mobilenet_v1((3, 128, 128)), 16),
    "mobilenet-v2": Net("MobileNetV2, 128", lambda: models.mobilenet_v2((3, 128, 128)), 16),
    "densenet-bc": Net("DenseNet-BC-40-12", lambda: models.densenet_bc(40, 12), 64),
    "wrn-16-4": Net("WRN-16-4", lambda: models.wide_resnet(16, 4), 64),
}


def chosen(names: Sequence[str] | None) -> dict[str, Net]:
    """Return the nets that one of these names begins; all of them for None. ValueError where a name begins none."""
    if names is None:
        return NETS
    for name in names:
        if not any(key.startswith(name) for key in NETS):
            raise ValueError(f"net: expected the beginning of one of {', '.join(NETS)}, got {name!r}")
    return {key: net for key, net in NETS.items() if key.startswith(tuple(names))}
