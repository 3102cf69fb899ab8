"""A siamese net learns which digits are the same: one encoder for two inputs, pulled together or pushed apart."""

import numpy as np

from minitrain import Input, Model, datasets, layers, optimizers

BATCH, STEPS, MARGIN = 128, 400, 1.0
(x_train, y_train), (x_test, y_test) = datasets.load("digits")  # comes with scikit-learn: no download
rng = np.random.default_rng(0)

shared = [
    layers.Conv2d(16, 3, padding=1), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2d(2),
    layers.Conv2d(32, 3, padding=1), layers.BatchNorm(), layers.ReLU(), layers.Flatten(), layers.Dense(8),
]  # fmt: skip


def encode(node):
    for layer in shared:  # a layer that is called twice has one set of weights
        node = layer(node)
    return node


def pairs(x, y, count):
    """Half of them of the same digit."""
    first = rng.integers(0, len(x), count)
    second = rng.integers(0, len(x), count)
    for k in range(0, count, 2):
        second[k] = rng.choice(np.flatnonzero(y == y[first[k]]))
    return [x[first], x[second]], y[first] == y[second]


def contrastive(a, b, same, da, db):
    """Hadsell, Chopra & LeCun 2006: d^2 for the same, max(0, margin - d)^2 for others; writes the gradients."""
    difference = a - b
    d = np.linalg.norm(difference, axis=1, keepdims=True) + 1e-6
    short = np.maximum(MARGIN - d, 0)
    da[...] = 2 * np.where(same[:, None], difference, -short * difference / d) / len(a)
    db[...] = -da
    return float(np.where(same[:, None], d**2, short**2).mean())


a, b = Input((1, 8, 8), name="a"), Input((1, 8, 8), name="b")
code = encode(a)
model = Model([a, b], {"a": code, "b": encode(b)}, seed=0)
run, updates = model.bind(BATCH), optimizers.Adam(2e-3).bind(model)
for step in range(STEPS):
    images, same = pairs(x_train, y_train, BATCH)
    codes, gradients = run.forward(images), run.output_gradient
    loss = contrastive(codes["a"], codes["b"], same, gradients["a"], gradients["b"])
    run.backward()
    updates.update()
    if step % 100 == 0:
        print(f"step {step}: loss {loss:.4f}")

images, same = pairs(x_test, y_test, 2000)
codes = model.predict(images)
close = np.linalg.norm(codes["a"] - codes["b"], axis=1) < MARGIN / 2
print(f"accuracy on pairs of unseen images: {(close == same).mean():.1%}")

encoder = Model(a, code, like=model)  # the half of it, with the weights that it has learned
known, new = encoder.predict(x_train), encoder.predict(x_test)
nearest = ((new[:, None] - known) ** 2).sum(axis=2).argmin(axis=1)
print(f"accuracy of the nearest neighbour's digit: {(y_train[nearest] == y_test).mean():.1%}")
