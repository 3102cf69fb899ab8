"""Nets with everything in them that looks beyond its own sample, and what becomes of them on some ranks."""

import hashlib

import numpy as np

from minitrain import Input, Model, Trainer, layers, losses, optimizers

SAMPLES, CLASSES = 48, 3


def conv_net(seed=1, dtype="float64", norm=layers.BatchNorm):
    """Batch norms alone, before a ReLU, after an addition; dropout."""
    x = Input((2, 5, 5))
    h = layers.ReLU()(norm()(layers.Conv2d(4, 3, padding=1)(x)))
    h = layers.Dropout(0.3)(h)
    other = norm()(layers.Conv2d(4, 3, padding=1)(h))
    h = layers.ReLU()(layers.Add()(other, h))
    h = layers.Sigmoid()(norm()(layers.Dense(6)(layers.Flatten()(h))))
    return Model(x, layers.Dense(CLASSES)(h), seed=seed, dtype=dtype)


def net_with_lengths(seed=2, dtype="float64"):
    """Batch norms of valid values."""
    x, lengths = Input((3, 7)), Input((), dtype="int64")
    h = layers.Sigmoid()(layers.BatchNorm()(x, lengths))
    h = layers.BatchNorm(momentum=None, affine=False)(layers.Dense(5)(layers.Flatten()(h)))
    return Model([x, lengths], layers.Dense(CLASSES)(layers.ReLU()(h)), seed=seed, dtype=dtype)


def conv_data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((SAMPLES, 2, 5, 5)) * 2 + 3, rng.integers(0, CLASSES, SAMPLES)


def data_with_lengths():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((SAMPLES, 3, 7))
    lengths = rng.integers(0, 8, SAMPLES)
    x[np.arange(7) >= lengths[:, None, None].repeat(3, axis=1)] = np.nan  # garbage
    return [x, lengths], rng.integers(0, CLASSES, SAMPLES)


def trained(model, data, comm, epochs=2, batch_size=8, sample_weight=None, callbacks=(), **options):
    """The trainer and the history of a short fit."""
    fit = {name: options.pop(name) for name in ("accumulate", "augment", "validation_split") if name in options}
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizer, comm=comm, **options)
    history = trainer.fit(
        *data, epochs=epochs, batch_size=batch_size, sample_weight=sample_weight, callbacks=callbacks, seed=3,
        verbose=False, **fit,
    )  # fmt: skip
    return trainer, history


def measured(history):
    """A history without what depends on the clock."""
    return {name: each for name, each in history.metrics.items() if name not in ("seconds", "images_per_second")}


def digest(trainer, history):
    """A hash of parameters, state and history."""
    found = hashlib.sha256(trainer.model.flat_params.tobytes() + trainer.model.flat_state.tobytes())
    found.update(repr(measured(history)).encode())
    return found.hexdigest()


def difference(first, second):
    """The largest difference of parameters, state and history of two (trainer, history), relative to the largest."""
    worst = 0.0
    (a, history_a), (b, history_b) = first, second
    pairs = [(a.model.flat_params, b.model.flat_params)]
    pairs += [(a.model.state[name], b.model.state[name]) for name in b.model.state]
    pairs += [(np.array(each), np.array(measured(history_b)[name])) for name, each in measured(history_a).items()]
    for one, other in pairs:
        one, other = one.astype(np.float64), other.astype(np.float64)
        worst = max(worst, float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30)))
    return worst
