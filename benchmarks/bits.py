"""SHA-256 of what seeded trainings compute: a change that must not move a bit is held against the commit before.

    python -m benchmarks.bits                 # of this checkout
    python -m benchmarks.bits --stability     # the numbers of `minitrain stability --quick` too (a minute)

The bits are those of one machine: vector width and BLAS decide some of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minitrain import Input, Model, Trainer, datasets, layers, losses, models, optimizers

__all__ = ["NETS", "hash_of_stability", "hash_of_training"]

STEPS = 20
TIMES = {"seconds", "date", "ms_per_step", "milliseconds"}  # what differs between runs that compute the same


def mlp() -> Model:
    """784-100-100-100-10 with batch norm before sigmoids."""
    h = x = Input((784,))
    for _ in range(3):
        h = layers.Sigmoid()(layers.BatchNorm()(layers.Dense(100, bias=False)(h)))
    return Model(x, layers.Dense(10)(h), seed=0)


# name: model, shape of a sample, batch, optimizer
NETS: dict[str, tuple[Callable[[], Model], tuple[int, ...], int, Callable[[], optimizers.Optimizer]]] = {
    "ResNet-20": (
        lambda: models.resnet20((3, 32, 32), 10, seed=0), (3, 32, 32), 32, lambda: optimizers.SGD(0.1, momentum=0.9)
    ),
    "MNIST net (b)": (
        lambda: models.article_b((1, 28, 28), 10, seed=0), (1, 28, 28), 64, lambda: optimizers.Adam(1e-3)
    ),
    "MLP": (mlp, (784,), 60, lambda: optimizers.Adam(1e-3, l2=1e-4)),
    "LeNet": (lambda: models.lenet((1, 28, 28), 10, seed=0), (1, 28, 28), 50, lambda: optimizers.RMSprop(1e-3)),
}  # fmt: skip


def hash_of_training(make: Callable[[], Model], shape: tuple[int, ...], batch: int, optimizer: Any) -> str:
    """Train on random numbers for `STEPS` steps; hash parameters, state and what the trained net predicts."""
    rng = np.random.default_rng(7)
    model = make()
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizer)
    x = rng.standard_normal((batch, *shape), dtype=np.float32)
    for _ in range(STEPS):
        x = rng.standard_normal((batch, *shape), dtype=np.float32)
        trainer.step(x, rng.integers(0, 10, batch))
    return _hash(model.flat_params.tobytes(), model.flat_state.tobytes(), model.predict(x).tobytes())


def hash_of_digits() -> str:
    """Fit the digits net of the README for one epoch; hash parameters and state."""
    (x_train, y_train), _ = datasets.load("digits")
    x = Input((1, 8, 8))
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(16, 3, padding=1, bias=False)(x)))
    skip = h
    h = layers.BatchNorm()(layers.Conv2d(16, 3, padding=1, bias=False)(h))
    h = layers.Flatten()(layers.MaxPool2d(2)(layers.ReLU()(layers.Add()(h, skip))))
    model = Model(x, layers.Dense(10, name="head")(h), seed=0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
    trainer.fit(x_train, y_train, epochs=1, batch_size=32, verbose=False)
    return _hash(model.flat_params.tobytes(), model.flat_state.tobytes(), model.predict(x_train).tobytes())


def hash_of_stability() -> str:
    """Hash all numbers of `minitrain stability --quick` but times."""
    from minitrain.cli import main

    with tempfile.TemporaryDirectory() as folder:
        main(["stability", "--quick", "--out", folder])
        results = json.loads((Path(folder) / "results.json").read_text())
    return _hash(json.dumps(_without_times(results), sort_keys=True).encode())


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def main() -> None:
    """Print a line for each net."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stability", action="store_true", help="also hash the numbers of `stability --quick`")
    arguments = parser.parse_args()
    for name, (make, shape, batch, optimizer) in NETS.items():
        print(f"{name:16} {hash_of_training(make, shape, batch, optimizer())}", flush=True)
    print(f"{'digits net':16} {hash_of_digits()}", flush=True)
    if arguments.stability:
        print(f"{'stability':16} {hash_of_stability()}")


if __name__ == "__main__":
    main()
